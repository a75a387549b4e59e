//! Tokenizers and chat templates behind a C ABI (include/mlxr_text.h).
mod abi;
mod chat;
mod decoding;
mod error;
mod library;
mod python;
mod python_json;
mod python_methods;
mod splits;
mod spm;
mod tokenizer;
mod vocab;
