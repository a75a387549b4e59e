"""LoRA adapters of random numbers for mlxr-demo, as PEFT saves them."""

import json
import random
import struct

LAYERS, HIDDEN, FFN, Q, KV = 6, 384, 1024, 384, 128
TARGETS = {
    "self_attn.q_proj": (Q, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, Q),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}


def write_adapter(folder, seed, rank=4, columns=None, alpha=24):
    """A PEFT folder of random numbers; with `columns` it fits another model."""
    numbers = random.Random(seed)
    tensors, data = {}, bytearray()

    def add(name, rows, cols):
        values = [numbers.uniform(-0.1, 0.1) for _ in range(rows * cols)]
        begin = len(data)
        data.extend(struct.pack(f"<{len(values)}f", *values))
        tensors[name] = {"dtype": "F32", "shape": [rows, cols], "data_offsets": [begin, len(data)]}

    for layer in range(LAYERS):
        for target, (rows, cols) in TARGETS.items():
            name = f"base_model.model.model.layers.{layer}.{target}"
            wrong = columns if target == "self_attn.q_proj" else None
            add(name + ".lora_A.weight", rank, wrong or cols)
            add(name + ".lora_B.weight", rows, rank)
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps(tensors).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(data)
    (folder / "adapter_model.safetensors").write_bytes(content)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": list(TARGETS)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
