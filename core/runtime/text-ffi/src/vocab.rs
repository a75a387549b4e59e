//! The vocabulary that a GGUF file carries, as the border hands it over.
use crate::error::{Result, TextError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    pub fn from_gguf(code: i32) -> Self {
        match code {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Never the result of ordinary text, and left out when special tokens are skipped.
    pub fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

#[derive(Debug)]
pub struct Vocab {
    pub model: String,
    pub pre: String,
    pub tokens: Vec<String>,
    pub scores: Vec<f32>,
    pub kinds: Vec<TokenKind>,
    pub merges: Vec<String>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub add_space_prefix: bool,
}

impl Vocab {
    pub fn check(&self) -> Result<()> {
        if self.tokens.is_empty() || self.tokens.len() > i32::MAX as usize {
            return Err(TextError::corrupt(format!(
                "the GGUF vocabulary has {} tokens (tokenizer.ggml.tokens); get the file again",
                self.tokens.len()
            )));
        }
        let named = [("bos", self.bos), ("eos", self.eos), ("unknown", self.unk)];
        for (name, id) in named {
            if id.is_some_and(|id| id as usize >= self.tokens.len()) {
                return Err(TextError::corrupt(format!(
                    "tokenizer.ggml.{name}_token_id is outside the vocabulary of {} tokens; \
                     get the GGUF file again",
                    self.tokens.len()
                )));
            }
        }
        Ok(())
    }
}
