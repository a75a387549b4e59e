"""The Rust text library for Python tests, through its C ABI (core/runtime/text-ffi)."""

import ctypes
import json
import os
import subprocess
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_size_t, c_uint8, c_void_p
from dataclasses import dataclass, field
from pathlib import Path

CRATE = Path(__file__).resolve().parents[2] / "core/runtime/text-ffi"


class Span(Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class Buffer(Structure):
    _fields_ = [("data", POINTER(c_uint8)), ("size", c_size_t)]


class Ids(Structure):
    _fields_ = [("data", POINTER(c_int32)), ("size", c_size_t)]


class RawVocab(Structure):
    _fields_ = [
        ("model", Span),
        ("pre", Span),
        ("tokens", POINTER(Span)),
        ("scores", POINTER(c_float)),
        ("token_types", POINTER(c_int32)),
        ("token_count", c_size_t),
        ("merges", POINTER(Span)),
        ("merge_count", c_size_t),
        ("bos", c_int32),
        ("eos", c_int32),
        ("unk", c_int32),
        ("add_bos", c_uint8),
        ("add_eos", c_uint8),
        ("add_space_prefix", c_uint8),
    ]


@dataclass
class Vocab:
    model: str
    pre: str
    tokens: list
    types: list
    scores: list = field(default_factory=list)
    merges: list = field(default_factory=list)
    add_space_prefix: bool = False


class TextError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def _build():
    """The crate as a shared library, in cargo's own folder for this machine."""
    target = Path(os.environ.get("MLXR_TEXT_TARGET_DIR", Path.home() / ".cache/mlxr-text-target"))
    command = ["cargo", "rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"]
    command += ["--manifest-path", str(CRATE / "Cargo.toml"), "--target-dir", str(target)]
    path = f"{os.environ['PATH']}:{Path.home()}/.cargo/bin"
    subprocess.run(command, check=True, env={**os.environ, "PATH": path})
    found = [target / "release" / name for name in ("libmlxr_text.so", "libmlxr_text.dylib")]
    return next(library for library in found if library.exists())


_library = None


def library():
    global _library
    if _library is None:
        _library = ctypes.CDLL(str(_build()))
        _library.mlxr_text_buffer_free.argtypes = [Buffer]
        _library.mlxr_text_ids_free.argtypes = [Ids]
        _library.mlxr_tokenizer_free.argtypes = [c_void_p]
        _library.mlxr_chat_template_free.argtypes = [c_void_p]
        _library.mlxr_tokenizer_vocab_size.argtypes = [c_void_p]
    return _library


def _span(text):
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    keep = ctypes.create_string_buffer(data, len(data) or 1)
    span = Span(ctypes.cast(keep, c_void_p), len(data))
    span.keep = keep  # ctypes copies the pointer only
    return span


def _take(buffer):
    data = ctypes.string_at(buffer.data, buffer.size) if buffer.size else b""
    library().mlxr_text_buffer_free(buffer)
    return data


def _check(status, error):
    if status != 0:
        raise TextError(status, _take(error).decode())


class Tokenizer:
    def __init__(self, handle):
        self.handle = handle

    def __del__(self):
        library().mlxr_tokenizer_free(self.handle)

    @classmethod
    def from_json(cls, text):
        handle, error = c_void_p(), Buffer()
        _check(library().mlxr_tokenizer_from_json(_span(text), byref(handle), byref(error)), error)
        return cls(handle)

    @classmethod
    def from_vocab(cls, vocab):
        tokens = [_span(token) for token in vocab.tokens]
        merges = [_span(merge) for merge in vocab.merges]
        raw = RawVocab(
            model=_span(vocab.model),
            pre=_span(vocab.pre),
            tokens=(Span * len(tokens))(*tokens),
            scores=(c_float * len(tokens))(*vocab.scores) if vocab.scores else None,
            token_types=(c_int32 * len(tokens))(*vocab.types),
            token_count=len(tokens),
            merges=(Span * len(merges))(*merges),
            merge_count=len(merges),
            bos=-1,
            eos=-1,
            unk=-1,
            add_space_prefix=vocab.add_space_prefix,
        )
        handle, error = c_void_p(), Buffer()
        status = library().mlxr_tokenizer_from_vocab(byref(raw), byref(handle), byref(error))
        _check(status, error)
        return cls(handle)

    def encode(self, text, add_special=False, parse_special=False):
        ids, error = Ids(), Buffer()
        status = library().mlxr_tokenizer_encode(
            self.handle,
            _span(text),
            c_uint8(add_special),
            c_uint8(parse_special),
            byref(ids),
            byref(error),
        )
        _check(status, error)
        result = ids.data[: ids.size]
        library().mlxr_text_ids_free(ids)
        return result

    def decode(self, ids, skip_special=False):
        text, error = Buffer(), Buffer()
        array = (c_int32 * len(ids))(*ids)
        status = library().mlxr_tokenizer_decode(
            self.handle,
            array,
            c_size_t(len(ids)),
            c_uint8(skip_special),
            byref(text),
            byref(error),
        )
        _check(status, error)
        return _take(text).decode()

    def vocab_size(self):
        return library().mlxr_tokenizer_vocab_size(self.handle)


class ChatTemplate:
    def __init__(self, source):
        handle, error = c_void_p(), Buffer()
        _check(library().mlxr_chat_template_new(_span(source), byref(handle), byref(error)), error)
        self.handle = handle

    def __del__(self):
        if hasattr(self, "handle"):
            library().mlxr_chat_template_free(self.handle)

    def render(self, variables):
        text, error = Buffer(), Buffer()
        status = library().mlxr_chat_template_render(
            self.handle, _span(json.dumps(variables)), byref(text), byref(error)
        )
        _check(status, error)
        return _take(text).decode()
