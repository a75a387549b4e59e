//! SentencePiece BPE as GGUF stores it: pieces with scores, merged best first. The `tokenizers`
//! crate ranks pairs, not pieces, so that equal scores and overlapping pairs could come out
//! otherwise; this is the algorithm of sentencepiece itself, on a heap.
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};

use crate::decoding::{byte_of_spelling, Decoding};
use crate::error::{Result, TextError};
use crate::tokenizer::Parts;
use crate::vocab::{TokenKind, Vocab};

const SPACE: &str = "\u{2581}";

pub struct Spm {
    pieces: Vec<Piece>,
    by_text: AHashMap<String, u32>,
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    add_space_prefix: bool,
    /// User-defined tokens, and with control tokens.
    plain: Matcher,
    parsing: Matcher,
}

struct Piece {
    text: String,
    score: f32,
    kind: TokenKind,
}

struct Matcher {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Matcher {
    fn new(pieces: &[Piece], wanted: impl Fn(TokenKind) -> bool) -> Result<Self> {
        let chosen = (0u32..).zip(pieces);
        let chosen = chosen.filter(|(_, p)| wanted(p.kind) && !p.text.is_empty());
        let (ids, texts): (Vec<u32>, Vec<String>) =
            chosen.map(|(id, p)| (id, escape(&p.text))).unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&texts)
            .map_err(|e| TextError::unsupported(format!("too many special tokens: {e}")))?;
        Ok(Self { automaton, ids })
    }
}

pub fn from_vocab(vocab: &Vocab) -> Result<Parts<Spm>> {
    if vocab.scores.len() != vocab.tokens.len() {
        return Err(TextError::corrupt(
            "the GGUF vocabulary is SentencePiece but has no score for each token \
             (tokenizer.ggml.scores); get the file again",
        ));
    }
    let mut pieces = Vec::with_capacity(vocab.tokens.len());
    let mut by_text = AHashMap::with_capacity(vocab.tokens.len());
    let mut bytes = [None; 256];
    let tokens = vocab.tokens.iter().zip(&vocab.scores).zip(&vocab.kinds);
    for (id, ((text, score), kind)) in (0u32..).zip(tokens) {
        by_text.entry(text.clone()).or_insert(id);
        if *kind == TokenKind::Byte {
            if let Some(byte) = byte_of_spelling(text) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        pieces.push(Piece {
            text: text.clone(),
            score: *score,
            kind: *kind,
        });
    }
    let special_ids = (0u32..).zip(&pieces).filter(|(_, p)| p.kind.is_special());
    let special_ids = special_ids.map(|(id, _)| id).collect();
    let unk = (0u32..)
        .zip(&pieces)
        .find(|(_, p)| p.kind == TokenKind::Unknown);
    let unk = vocab.unk.or(unk.map(|(id, _)| id));
    Ok(Parts {
        decoding: Decoding {
            byte_fallback: true,
            replace: vec![(SPACE.to_owned(), " ".to_owned())],
            strip_start: vocab.add_space_prefix.then_some((b' ', 1)),
            ..Decoding::default()
        },
        special_ids,
        vocab_size: pieces.len() as i32,
        backend: Spm {
            plain: Matcher::new(&pieces, |kind| kind == TokenKind::UserDefined)?,
            parsing: Matcher::new(&pieces, |k| k == TokenKind::UserDefined || k.is_special())?,
            pieces,
            by_text,
            bytes,
            unk,
            add_space_prefix: vocab.add_space_prefix,
        },
    })
}

impl Spm {
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let matcher = if parse_special {
            &self.parsing
        } else {
            &self.plain
        };
        let text = escape(text);
        let mut ids = Vec::new();
        let mut start = 0;
        for found in matcher.automaton.find_iter(&text) {
            self.encode_raw(&text[start..found.start()], &mut ids);
            ids.push(matcher.ids[found.pattern().as_usize()]);
            start = found.end();
        }
        self.encode_raw(&text[start..], &mut ids);
        ids
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.by_text.get(token).copied()
    }

    pub fn spelling(&self, id: u32) -> Option<(&str, bool)> {
        let piece = self.pieces.get(id as usize)?;
        Some((&piece.text, piece.kind != TokenKind::Byte))
    }

    /// Escaped text between tokens that were matched whole. Each such text starts like a new one.
    fn encode_raw(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        if self.add_space_prefix {
            Merger::new(self, &(SPACE.to_owned() + text)).run(ids);
        } else {
            Merger::new(self, text).run(ids);
        }
    }

    /// A piece that merging may produce.
    fn mergeable(&self, text: &str) -> Option<(u32, f32)> {
        let id = *self.by_text.get(text)?;
        let piece = &self.pieces[id as usize];
        let usable = matches!(
            piece.kind,
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused
        );
        usable.then_some((id, piece.score))
    }
}

/// A vocabulary knows a space by its mark only.
fn escape(text: &str) -> String {
    text.replace(' ', SPACE)
}

/// A run of characters that is one piece so far; empty once it went into its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    previous: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    size: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then_with(|| other.left.cmp(&self.left))
    }
}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate {}

struct Merger<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
    /// Unused pieces are steps on the way only: what they were made of.
    parts_of_unused: AHashMap<&'a str, (&'a str, &'a str)>,
}

impl<'a> Merger<'a> {
    fn new(spm: &'a Spm, text: &'a str) -> Self {
        let count = text.chars().count();
        let symbols = text
            .char_indices()
            .enumerate()
            .map(|(i, (start, c))| Symbol {
                start,
                end: start + c.len_utf8(),
                previous: if i == 0 { NONE } else { i - 1 },
                next: if i + 1 == count { NONE } else { i + 1 },
            });
        Self {
            spm,
            text,
            symbols: symbols.collect(),
            queue: BinaryHeap::new(),
            parts_of_unused: AHashMap::new(),
        }
    }

    fn run(mut self, ids: &mut Vec<u32>) {
        for right in 1..self.symbols.len() {
            self.propose(right - 1, right);
        }
        while let Some(best) = self.queue.pop() {
            self.merge(&best);
        }
        let mut at = 0;
        let mut unknown_before = false;
        while at != NONE {
            let symbol = self.symbols[at];
            self.emit(
                &self.text[symbol.start..symbol.end],
                ids,
                &mut unknown_before,
            );
            at = symbol.next;
        }
    }

    fn propose(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let (a, b) = (self.symbols[left], self.symbols[right]);
        let merged = &self.text[a.start..b.end];
        let Some((id, score)) = self.spm.mergeable(merged) else {
            return;
        };
        self.queue.push(Candidate {
            score,
            left,
            right,
            size: merged.len(),
        });
        if self.spm.pieces[id as usize].kind == TokenKind::Unused {
            let parts = (&self.text[a.start..a.end], &self.text[b.start..b.end]);
            self.parts_of_unused.insert(merged, parts);
        }
    }

    fn merge(&mut self, candidate: &Candidate) {
        let (a, b) = (self.symbols[candidate.left], self.symbols[candidate.right]);
        let stale = a.start == a.end || b.start == b.end || b.end - a.start != candidate.size;
        if stale {
            return;
        }
        self.symbols[candidate.left].end = b.end;
        self.symbols[candidate.left].next = b.next;
        self.symbols[candidate.right].start = b.end;
        if b.next != NONE {
            self.symbols[b.next].previous = candidate.left;
        }
        self.propose(a.previous, candidate.left);
        self.propose(candidate.left, b.next);
    }

    fn emit(&self, piece: &str, ids: &mut Vec<u32>, unknown_before: &mut bool) {
        let id = self.spm.mergeable(piece).map(|(id, _)| id);
        let unused = id.is_some_and(|id| self.spm.pieces[id as usize].kind == TokenKind::Unused);
        if unused {
            if let Some((left, right)) = self.parts_of_unused.get(piece) {
                self.emit(left, ids, unknown_before);
                self.emit(right, ids, unknown_before);
                return;
            }
        }
        if let Some(id) = id {
            ids.push(id);
            *unknown_before = false;
            return;
        }
        let bytes = piece.bytes().map(|b| self.spm.bytes[usize::from(b)]);
        if let Some(bytes) = bytes.collect::<Option<Vec<u32>>>() {
            ids.extend(bytes);
            *unknown_before = false;
        } else if !*unknown_before {
            ids.extend(self.spm.unk);
            *unknown_before = true;
        }
    }
}
