#!/usr/bin/env python3
"""Writes the fixtures that the C++ tests read, from the reference implementations.

    python3 -m venv /tmp/v && /tmp/v/bin/pip install jinja2 transformers sentencepiece protobuf
    /tmp/v/bin/python tests/text/make_fixtures.py

tests/text/fixtures/chat_cases.json  what transformers renders for the cases of chat_cases.py
tests/text/fixtures/spm_cases.json   small SentencePiece vocabularies and the ids of many texts
"""

import io
import json
from pathlib import Path

import chat_cases
import jinja2
import sentencepiece
from sample_texts import FIXED, random_texts
from sentencepiece import sentencepiece_model_pb2
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
MODELS = HERE.parents[1] / "models"


def write(name, value):
    """One case a line."""
    lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in value)
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    (FIXTURES / name).write_text(text, encoding="utf-8")


def render(case):
    """The text, or the words of the exception."""
    variables = {"bos_token": "<s>", "eos_token": "</s>", **case.get("extra", {})}
    try:
        texts, _ = render_jinja_template(
            [case["messages"]],
            tools=case.get("tools"),
            chat_template=case["template"],
            add_generation_prompt=case.get("add_generation_prompt", True),
            **variables,
        )
        return {"text": texts[0]}
    except jinja2.exceptions.UndefinedError:
        return {"fails": True}
    except jinja2.exceptions.TemplateError as error:
        return {"raises": error.message}


def make_chat():
    demo = json.loads((MODELS / "mlxr-demo/tokenizer_config.json").read_text())["chat_template"]
    cases = chat_cases.cases(demo)
    write("chat_cases.json", [{**case, "expected": render(case)} for case in cases])


def corpus():
    for path in sorted((MODELS / "eval").glob("*.jsonl")):
        yield from path.read_text(encoding="utf-8").splitlines()[:40]
    yield from FIXED[2:]
    yield from random_texts(300, seed=1)


def train(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def with_unused(processor):
    """Makes a third of the pieces ones that sentencepiece steps on but does not give."""
    model = sentencepiece_model_pb2.ModelProto.FromString(processor.serialized_model_proto())
    for i, piece in enumerate(model.pieces):
        if piece.type == piece.NORMAL and len(piece.piece) > 1 and i % 3 == 1:
            piece.type = piece.UNUSED
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def spm_fixture(processor, prefix, user_defined=()):
    size = processor.vocab_size()
    tokens = [processor.id_to_piece(i) for i in range(size)]

    def kind(i):
        if tokens[i] in user_defined:
            return 4
        if processor.is_unknown(i):
            return 2
        if processor.is_control(i):
            return 3
        if processor.is_unused(i):
            return 5
        return 6 if processor.is_byte(i) else 1

    texts = [t for t in [*FIXED, *random_texts(150, seed=2)] if "\0" not in t]
    return {
        "add_space_prefix": prefix,
        "tokens": tokens,
        "scores": [processor.get_score(i) for i in range(size)],
        "token_types": [kind(i) for i in range(size)],
        "cases": [[text, processor.encode(text)] for text in texts],
    }


def make_spm():
    prefixed = train(vocab_size=700, character_coverage=0.98)
    marks = ["▁▁▁▁", "<think>", "<0x", '{"a":']
    plain = train(vocab_size=900, add_dummy_prefix=False, user_defined_symbols=marks)
    partly = with_unused(train(vocab_size=700, character_coverage=0.98))
    write(
        "spm_cases.json",
        [
            spm_fixture(prefixed, True),
            spm_fixture(plain, False, marks),
            spm_fixture(partly, True),
        ],
    )


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    make_chat()
    make_spm()
