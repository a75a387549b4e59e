//! Ids back to text: what bytes a token stands for, and how bytes become text while they stream.
//! Every scheme is a concatenation of bytes, so that a stream and a whole decode agree by design.
use serde_json::Value;

use crate::error::{Result, TextError};

/// How the spelling of a token in the vocabulary maps to bytes.
#[derive(Debug, Clone, Default)]
pub struct Decoding {
    /// GPT-2's alphabet: each character of a spelling is one byte.
    pub byte_level: bool,
    /// A spelling such as <0x0A> is one byte.
    pub byte_fallback: bool,
    pub replace: Vec<(String, String)>,
    /// At most so many of this byte are dropped from the start of the whole text.
    pub strip_start: Option<(u8, u8)>,
    /// The first token loses this character wherever it stands (Metaspace).
    pub drop_in_first: Option<char>,
    /// Between tokens (a tokenizer.json without a decoder).
    pub separator: &'static str,
    pub word_pieces: Option<WordPieces>,
}

/// Tokens are words, with a space between, but for those that go on with a word.
#[derive(Debug, Clone)]
pub struct WordPieces {
    /// Of a token that goes on.
    pub prefix: String,
    /// Without the space before punctuation and English contractions.
    pub cleanup: bool,
}

impl WordPieces {
    fn text_of(&self, token: &str, first: bool) -> String {
        let spaced = match token.strip_prefix(self.prefix.as_str()) {
            Some(rest) if !first => rest.to_owned(),
            _ if first => token.to_owned(),
            _ => format!(" {token}"),
        };
        if self.cleanup {
            tokenizers::decoders::wordpiece::cleanup(&spaced)
        } else {
            spaced
        }
    }
}

/// Mirrors mlxr_text_stream of the header.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Stream {
    started: u8,
    stripped: u8,
    tail_size: u8,
    tail: [u8; 3],
}

const STRIP_OVER: u8 = 255;

impl Decoding {
    pub fn byte_level() -> Self {
        Self {
            byte_level: true,
            ..Self::default()
        }
    }

    pub fn word_pieces(prefix: &str, cleanup: bool) -> Self {
        let prefix = prefix.to_owned();
        Self {
            word_pieces: Some(WordPieces { prefix, cleanup }),
            ..Self::default()
        }
    }

    /// Reads the "decoder" of a tokenizer.json.
    pub fn from_json(decoder: &Value) -> Result<Self> {
        let mut decoding = Self::default();
        if decoder.is_null() {
            decoding.separator = " ";
            return Ok(decoding);
        }
        let mut fused = false;
        let one = [decoder.clone()];
        let steps = match decoder["decoders"].as_array() {
            Some(list) if decoder["type"] == "Sequence" => list.as_slice(),
            _ => one.as_slice(),
        };
        for step in steps {
            decoding.add_step(step, &mut fused)?;
        }
        Ok(decoding)
    }

    fn add_step(&mut self, step: &Value, fused: &mut bool) -> Result<()> {
        match step["type"].as_str().unwrap_or("") {
            "ByteLevel" => self.byte_level = true,
            "ByteFallback" => self.byte_fallback = true,
            "Fuse" => *fused = true,
            "Replace" => {
                let (Some(from), Some(to)) =
                    (step["pattern"]["String"].as_str(), step["content"].as_str())
                else {
                    return Err(unsupported_decoder("Replace with a regular expression"));
                };
                self.replace.push((from.to_owned(), to.to_owned()));
            }
            "Strip" => {
                let content = step["content"].as_str().unwrap_or("").as_bytes();
                let (start, stop) = (step["start"].as_u64(), step["stop"].as_u64());
                match (content, start, stop) {
                    ([byte], Some(start), Some(0)) if *fused && start < 255 => {
                        self.strip_start = Some((*byte, start as u8));
                    }
                    _ => return Err(unsupported_decoder("Strip of more than the text's start")),
                }
            }
            "Metaspace" => {
                let mark = step["replacement"].as_str().and_then(|s| s.chars().next());
                let mark = mark.unwrap_or('\u{2581}');
                let never = step["prepend_scheme"] == "never"
                    || (step["prepend_scheme"].is_null() && step["add_prefix_space"] == false);
                self.replace.push((mark.to_string(), " ".to_owned()));
                self.drop_in_first = (!never).then_some(mark);
            }
            "WordPiece" => {
                let prefix = step["prefix"].as_str().unwrap_or("##").to_owned();
                let cleanup = step["cleanup"].as_bool().unwrap_or(true);
                self.word_pieces = Some(WordPieces { prefix, cleanup });
            }
            other => return Err(unsupported_decoder(other)),
        }
        Ok(())
    }

    /// The bytes of a token spelled `token`. `literal`: an added token, spelled as it reads.
    pub fn token_bytes(&self, token: &str, literal: bool) -> Vec<u8> {
        if let Some(pieces) = &self.word_pieces {
            let bare = token.strip_prefix(pieces.prefix.as_str());
            return bare.unwrap_or(token).as_bytes().to_vec();
        }
        if self.byte_level {
            if !literal {
                if let Some(bytes) = token.chars().map(byte_of_char).collect() {
                    return bytes;
                }
            }
            return token.as_bytes().to_vec();
        }
        if self.byte_fallback && !literal {
            if let Some(byte) = byte_of_spelling(token) {
                return vec![byte];
            }
        }
        let mut text = token.to_owned();
        for (from, to) in &self.replace {
            if text.contains(from.as_str()) {
                text = text.replace(from.as_str(), to);
            }
        }
        text.into_bytes()
    }

    /// The bytes that a token adds to a text that stands at `stream`.
    fn next_bytes(&self, stream: &mut Stream, token: &str, literal: bool) -> Vec<u8> {
        let first = stream.started == 0;
        stream.started = 1;
        if let Some(pieces) = &self.word_pieces {
            return pieces.text_of(token, first).into_bytes();
        }
        let mut bytes = match self.drop_in_first {
            Some(mark) if first => self.token_bytes(&token.replace(mark, ""), literal),
            _ => self.token_bytes(token, literal),
        };
        if !first && !self.separator.is_empty() {
            bytes.splice(0..0, self.separator.bytes());
        }
        if let Some((byte, most)) = self.strip_start {
            if stream.stripped != STRIP_OVER {
                let room = usize::from(most.saturating_sub(stream.stripped));
                let drop = bytes.iter().take(room).take_while(|b| **b == byte).count();
                stream.stripped += drop as u8;
                bytes.drain(..drop);
                if !bytes.is_empty() {
                    stream.stripped = STRIP_OVER;
                }
            }
        }
        bytes
    }

    /// Takes one token and appends the text that it completes.
    pub fn push(&self, stream: &mut Stream, token: &str, literal: bool, text: &mut String) {
        let bytes = self.next_bytes(stream, token, literal);
        if stream.tail_size == 0 {
            stream.take(&bytes, text);
        } else {
            let mut all = stream.tail[..usize::from(stream.tail_size)].to_vec();
            all.extend_from_slice(&bytes);
            stream.take(&all, text);
        }
    }
}

impl Stream {
    /// Appends the complete characters of `bytes`, U+FFFD for each part that can never become one,
    /// and keeps the incomplete character at the end.
    fn take(&mut self, mut bytes: &[u8], text: &mut String) {
        self.tail_size = 0;
        while !bytes.is_empty() {
            let error = match std::str::from_utf8(bytes) {
                Ok(rest) => return text.push_str(rest),
                Err(error) => error,
            };
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).unwrap_or_default());
            let Some(bad) = error.error_len() else {
                self.tail_size = rest.len() as u8;
                self.tail[..rest.len()].copy_from_slice(rest);
                return;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            bytes = &rest[bad..];
        }
    }

    pub fn end(&mut self, text: &mut String) {
        if self.tail_size > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        *self = Self::default();
    }
}

fn unsupported_decoder(name: &str) -> TextError {
    TextError::unsupported(format!(
        "tokenizer.json uses the decoder '{name}', which MLXR does not support; use a model whose \
         tokenizer is byte-level BPE, SentencePiece or WordPiece"
    ))
}

/// The byte that a character of GPT-2's alphabet stands for: printable Latin-1 stands for itself,
/// the other 68 bytes were moved to U+0100 and up, in order.
pub fn byte_of_char(c: char) -> Option<u8> {
    match c as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The byte of a spelling such as <0x0A>.
pub fn byte_of_spelling(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}
