//! Tokenizers, chat templates and constrained decoding behind a C ABI (include/mlxr_text.h).
mod abi;
mod chat;
mod decoding;
mod error;
mod gbnf;
mod grammar;
mod library;
mod python;
mod python_json;
mod python_methods;
mod splits;
mod spm;
mod tokenizer;
mod vocab;
