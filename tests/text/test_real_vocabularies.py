"""Ids of real vocabularies, read as GGUF stores them, equal those of the reference implementations."""

import pytest

pytest.importorskip("sentencepiece", reason="the reference implementations are not installed")
pytest.importorskip("tiktoken", reason="the reference implementations are not installed")

import vocabularies
from mlxr_text import Tokenizer
from sample_texts import FIXED, random_texts


@pytest.mark.parametrize(
    "name", ["mistral", "tekken", "llama3", "llama4", "qwen", "deepseek"]
)
def test_ids_equal_the_reference(name):
    vocab, reference = getattr(vocabularies, name)()
    tokenizer = Tokenizer.from_vocab(vocab)
    for text in [*FIXED, *random_texts(3000, seed=23)]:
        ids = tokenizer.encode(text)
        assert ids == reference(text), repr(text)
