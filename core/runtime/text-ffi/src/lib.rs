//! Tokenizers and chat templates behind a C ABI (include/mlxr_text.h).
