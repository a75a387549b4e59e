"""Texts that tokenizers and templates disagree on, if they disagree at all."""

import random

FIXED = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n \n",
    "a",
    " a",
    "a ",
    "   a   b   ",
    "Hello, world!",
    "The quick brown fox jumps over 13 lazy dogs.",
    "I'm sure THEY'LL say it's We'd've ain't 'S 'T",
    "1 12 123 1234 12345 1234567890 ½ ² ٣٤٥ Ⅷ",
    "def f(x):\n    if x > 0:\n\t\treturn {'a': [1, 2.5e-3]}  # done\r\n",
    "https://example.org/a/b?c=d&e=%20#f",
    "naïve café résumé Straße ŉ ǅ",
    "e\u0301 n\u0303 \u1e9b\u0323 \ufb01 \u212b \u2126",
    "Привет, как дела? Всё хорошо!",
    "你好，世界。こんにちは、ｶﾀｶﾅ 세계 안녕하세요",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก",
    "👍🏽 👩‍👩‍👧 🏳️‍🌈 😀😀😀 ♥️",
    "\u00a0\u2003\u3000x\u200by\ufeffz",
    "\u2581\u2581a\u2581b <s> </s> <unk> <0x0A>",
    "\u0000\u0001\u001f\u007f\u0085\u2028",
    "!!!???...---===>>> ``` $$ ^^ ~~ || \\\\ //",
    "CamelCaseIDENTIFIER_with_snake_Case2XML",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    " " * 70 + "x" + "\n" * 9 + "\t" * 5,
    "\U0010ffff\ue000\ufffd",
]

PIECES = [
    "the",
    " quick",
    "Fox",
    "'s",
    "'LL",
    "\n",
    "\n\n",
    "  ",
    "     ",
    "\t",
    "1234",
    "7",
    "3.14",
    "...",
    "!?",
    " (",
    "def f():",
    "naïve",
    "日本",
    "語は",
    "Привет",
    "مرحبا",
    "👍🏽",
    "👩\u200d👩\u200d👧",
    "e\u0301",
    "\u2581",
    "<s>",
    "<0x0A>",
    "\r\n",
    '{"a": 1}',
    "x",
    "A",
    "ABC",
    "don't",
    "가나",
    "ไทย",
    "½",
    "_",
    "/",
    "\xa0",
    "\u3000",
    "$",
    "`",
    "+=",
]


def random_texts(count, seed):
    generator = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(generator.randrange(30)):
            if generator.random() < 0.8:
                parts.append(generator.choice(PIECES))
            else:
                code = generator.randrange(1, generator.choice([0x80, 0x500, 0x3000, 0x110000]))
                parts.append(chr(code) if not 0xD800 <= code < 0xE000 else "\ufffd")
        yield "".join(parts)
