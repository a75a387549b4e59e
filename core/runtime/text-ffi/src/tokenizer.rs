//! One tokenizer, whatever runs it: text to ids, ids to text, facts about tokens.
use ahash::AHashSet;

use crate::decoding::{Decoding, Stream};
use crate::error::{Result, TextError};
use crate::library::{self, Library};
use crate::spm::{self, Spm};
use crate::vocab::Vocab;

pub type SpecialIds = AHashSet<u32>;

/// What a backend's reader gives.
pub struct Parts<B> {
    pub backend: B,
    pub decoding: Decoding,
    pub special_ids: SpecialIds,
    pub vocab_size: i32,
}

enum Backend {
    Library(Box<Library>),
    Spm(Box<Spm>),
}

pub struct Tokenizer {
    backend: Backend,
    decoding: Decoding,
    special_ids: SpecialIds,
    vocab_size: i32,
    /// Put round an encoded text on request (a tokenizer.json says so in its own pipeline).
    before: Option<u32>,
    after: Option<u32>,
}

impl Tokenizer {
    pub fn from_json(json: &str) -> Result<Self> {
        let parts = library::from_json(json)?;
        Ok(Self::new(parts, |b| Backend::Library(Box::new(b))))
    }

    /// `add_bos`, `add_eos`: what the file says of texts that its model reads.
    pub fn from_vocab(vocab: &Vocab, add_bos: bool, add_eos: bool) -> Result<Self> {
        vocab.check()?;
        let mut tokenizer = match vocab.model.as_str() {
            "gpt2" => Self::new(library::from_vocab(vocab)?, |b| {
                Backend::Library(Box::new(b))
            }),
            "llama" => Self::new(spm::from_vocab(vocab)?, |b| Backend::Spm(Box::new(b))),
            "bert" => Self::new(library::word_pieces_from_vocab(vocab)?, |b| {
                Backend::Library(Box::new(b))
            }),
            other => {
                return Err(TextError::unsupported(format!(
                    "the GGUF vocabulary is of the kind '{other}' (tokenizer.ggml.model), which \
                     MLXR does not support; it reads 'gpt2' (BPE), 'llama' (SentencePiece) and \
                     'bert' (WordPiece)"
                )))
            }
        };
        tokenizer.before = vocab.bos.filter(|_| add_bos);
        tokenizer.after = vocab.eos.filter(|_| add_eos);
        Ok(tokenizer)
    }

    fn new<B>(parts: Parts<B>, wrap: impl FnOnce(B) -> Backend) -> Self {
        Self {
            backend: wrap(parts.backend),
            decoding: parts.decoding,
            special_ids: parts.special_ids,
            vocab_size: parts.vocab_size,
            before: None,
            after: None,
        }
    }

    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let ids = match &self.backend {
            Backend::Library(library) => library.encode(text, add_special, parse_special)?,
            Backend::Spm(spm) => spm.encode(text, parse_special),
        };
        if !add_special || (self.before.is_none() && self.after.is_none()) {
            return Ok(ids);
        }
        Ok(self
            .before
            .into_iter()
            .chain(ids)
            .chain(self.after)
            .collect())
    }

    pub fn decode(&self, ids: &[i32], skip_special: bool) -> String {
        let mut text = String::with_capacity(ids.len() * 4);
        let mut stream = Stream::default();
        for id in ids {
            self.push(&mut stream, *id, skip_special, &mut text);
        }
        stream.end(&mut text);
        text
    }

    /// Appends the text that `id` completes.
    pub fn push(&self, stream: &mut Stream, id: i32, skip_special: bool, text: &mut String) {
        if skip_special && self.is_special(id) {
            return;
        }
        if let Some((token, literal)) = self.spelling(id) {
            self.decoding.push(stream, &token, literal, text);
        }
    }

    pub fn token_bytes(&self, id: i32) -> Vec<u8> {
        let spelling = self.spelling(id);
        spelling.map_or_else(Vec::new, |(token, literal)| {
            self.decoding.token_bytes(&token, literal)
        })
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        match &self.backend {
            Backend::Library(library) => library.token_to_id(token),
            Backend::Spm(spm) => spm.token_to_id(token),
        }
    }

    pub fn is_special(&self, id: i32) -> bool {
        u32::try_from(id).is_ok_and(|id| self.special_ids.contains(&id))
    }

    pub fn vocab_size(&self) -> i32 {
        self.vocab_size
    }

    /// The token as the vocabulary spells it; empty for an unknown id.
    pub fn text_of(&self, id: i32) -> String {
        self.spelling(id)
            .map_or_else(String::new, |(token, _)| token)
    }

    fn spelling(&self, id: i32) -> Option<(String, bool)> {
        let id = u32::try_from(id).ok()?;
        match &self.backend {
            Backend::Library(library) => library.spelling(id),
            Backend::Spm(spm) => spm.spelling(id).map(|(token, l)| (token.to_owned(), l)),
        }
    }
}
