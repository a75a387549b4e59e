"""A model that says the given pieces of text, one token each, and then ends, whatever is asked.

Its vocabulary is mlxr-demo's with a token more for each piece. The one layer adds nothing; the
state is the last token's own direction, and the head points from each direction to the next.
"""

import json
import shutil
import struct

import numpy as np
from running_daemon import MODELS

SOURCE = MODELS / "mlxr-demo-draft"
SIZE = 64
END, LINE_BREAK = "<|im_end|>", "\u010a"  # as byte-level vocabularies write a line break


def write_scripted_model(folder, pieces, control=(), retell=str, endless=False):
    """Pieces that are tokens by themselves, such as "<tool_call>", stay what they are.

    The texts in `control` become control tokens; `retell` makes its template out of mlxr-demo's.
    An endless one says the last piece again and again.
    """
    assert len(set(pieces)) == len(pieces) < SIZE
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = tokenizer["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    for piece in [*pieces, *control]:
        if piece not in ids:
            ids[piece] = 1 + max(ids.values())
            told = {"id": ids[piece], "content": piece, "special": piece in control}
            added.append(added[-1] | told)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    spoken = json.loads((folder / "tokenizer_config.json").read_text())
    spoken["chat_template"] = retell(spoken["chat_template"])
    (folder / "tokenizer_config.json").write_text(json.dumps(spoken))
    vocab_size = 1 + max(ids.values())
    config = json.loads((folder / "config.json").read_text())
    sizes = {"hidden_size": SIZE, "intermediate_size": SIZE, "head_dim": SIZE}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    config |= {**sizes, **heads, "vocab_size": vocab_size, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))

    # A chat's prompt ends with a line break.
    last = ids[pieces[-1] if endless else END]
    said = [tokenizer["model"]["vocab"][LINE_BREAK], *(ids[piece] for piece in pieces), last]
    embedding, head = np.zeros((2, vocab_size, SIZE), "<f4")
    for i, (token, following) in enumerate(zip(said[:-1], said[1:], strict=True)):
        embedding[token, i] = head[following, i] = 5
    layer = {f"self_attn.{name}_proj": np.zeros((SIZE, SIZE), "<f4") for name in "qkvo"}
    layer |= {f"mlp.{name}_proj": np.zeros((SIZE, SIZE), "<f4") for name in ("gate", "up", "down")}
    layer |= {f"{name}_layernorm": np.ones(SIZE, "<f4") for name in ("input", "post_attention")}
    tensors = {f"model.layers.0.{name}.weight": values for name, values in layer.items()}
    tensors |= {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    write_tensors(
        folder / "model.safetensors", tensors | {"model.norm.weight": np.ones(SIZE, "<f4")}
    )


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        span = [len(data), len(data) + values.nbytes]
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": span}
        data += values.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
