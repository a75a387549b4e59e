"""Writes quant_fixtures.safetensors: random blocks of every weight format and what they decode to.

The values come from implementations other than ours: the `gguf` package (numpy), ml_dtypes for the
FP8 formats, and the definition written out in numpy for Q8_K, which `gguf` does not decode. Needed
again only when a format is added:

    pip install gguf ml_dtypes safetensors && python tests/core/formats/make_quant_fixtures.py
"""

from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from safetensors.numpy import save_file

BLOCKS = 6

# Where the float16 fields of a block lie.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0],
    "IQ1_M": [], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
    "MXFP4": [], "NVFP4": [],
}  # fmt: skip
GRIDS = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]


def random_blocks(name: str, random: np.random.Generator) -> np.ndarray:
    size = gguf.GGML_QUANT_SIZES[Type[name]][1]
    blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for at in HALVES[name]:
        scale = random.uniform(-0.1, 0.1, BLOCKS).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(BLOCKS, 2)
    if name == "IQ1_M":  # the exponent's high bits are in the upper nibble of the last byte
        blocks[:, 55] = (blocks[:, 55] & 0xAF) | 0x20
    if name == "MXFP4":  # large ones, and the smallest, where the half is subnormal
        blocks[:, 0] = [120, 127, 250, 2, 1, 0]
    if name == "NVFP4":  # both NaN, zero and the largest subnormal
        blocks[-1, :4] = [0x7F, 0xFF, 0x00, 0x07]
    return blocks


def q8_k(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    blocks = np.zeros(BLOCKS, dtype=[("d", "<f4"), ("q", "i1", 256), ("sums", "<i2", 16)])
    blocks["d"] = random.uniform(-0.1, 0.1, BLOCKS)
    blocks["q"] = random.integers(-128, 128, (BLOCKS, 256))
    blocks["sums"] = blocks["q"].reshape(BLOCKS, 16, 16).sum(axis=2)
    values = blocks["d"][:, None] * blocks["q"].astype(np.float32)
    return blocks.view(np.uint8).reshape(BLOCKS, -1), values


def main() -> None:
    random = np.random.default_rng(20240601)
    tensors = {}
    for name in HALVES:
        blocks = random_blocks(name, random)
        tensors[name + ".blocks"] = blocks
        tensors[name + ".values"] = quants.dequantize(blocks, Type[name])
    tensors["Q8_K.blocks"], tensors["Q8_K.values"] = q8_k(random)
    every_byte = np.arange(256, dtype=np.uint8).reshape(256, 1)
    for name, dtype in [
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
    ]:
        tensors[name + ".blocks"] = every_byte
        tensors[name + ".values"] = every_byte.view(dtype).astype(np.float32)
    for name in GRIDS:
        kind = getattr(quants, name)
        kind.init_grid()
        tensors[name + ".grid"] = kind.grid.reshape(kind.grid_shape).astype(np.int8)
    for name, tensor in tensors.items():
        if name.endswith(".values") and not name.startswith("F8"):
            assert np.isfinite(tensor).all(), name
    path = Path(__file__).with_name("quant_fixtures.safetensors")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
