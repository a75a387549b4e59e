"""A copy of a demo model under another vocabulary: the same weights, other ids, smaller tokens."""

import json
import shutil
import struct

VOCABULARY = 6144


def other_id(token):
    return (5 * token + 7) % VOCABULARY


def write_with_other_vocabulary(model, folder, without=0):
    """`without` > 0: every so many of the tokenizer's merges is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(model / name, folder / name)
    text = json.loads((model / "tokenizer.json").read_text())
    for added in text["added_tokens"]:
        added["id"] = other_id(added["id"])
    bpe = text["model"]
    bpe["vocab"] = {token: other_id(number) for token, number in bpe["vocab"].items()}
    if without:
        bpe["merges"] = [m for i, m in enumerate(bpe["merges"], 1) if i % without]
    (folder / "tokenizer.json").write_text(json.dumps(text))
    weights = bytearray((model / "model.safetensors").read_bytes())
    (size,) = struct.unpack_from("<Q", weights)
    embedding = json.loads(weights[8 : 8 + size])["model.embed_tokens.weight"]
    row = 2 * embedding["shape"][1]  # BF16
    begin = 8 + size + embedding["data_offsets"][0]
    rows = bytes(weights[begin : begin + VOCABULARY * row])
    for token in range(VOCABULARY):
        place = begin + other_id(token) * row
        weights[place : place + row] = rows[token * row : (token + 1) * row]
    (folder / "model.safetensors").write_bytes(weights)
    return folder
