//! Constrained decoding: grammars over a model's vocabulary, and the state of one text in them.
//! Everything below the vocabulary is the `llguidance` crate: a byte-level Earley parser over a lexer
//! of derivatives, walked along a trie of all tokens.
use std::fmt::Display;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory};
use serde_json::{json, Map, Value};

use crate::error::{Result, TextError};
use crate::gbnf;
use crate::tokenizer::Tokenizer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum GrammarKind {
    JsonSchema = 0,
    Regex = 1,
    Lark = 2,
    Gbnf = 3,
}

/// Between the tokens of a JSON text: a space, or a line break with an indentation. Unbounded white
/// space would let a model write nothing else for ever.
const JSON_SPACE: &str = r"(\x20|\n[\x20\t]{0,32})";

/// The trie holds nodes of at most 1,024 bytes; no text needs longer tokens.
const LONGEST_TOKEN: usize = 1000;

/// A vocabulary as grammars see it: a trie of every token's bytes, built once a model.
pub struct GrammarVocab {
    factory: ParserFactory,
    size: i32,
}

struct Vocabulary {
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }
    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(text)
    }
    /// The model chooses how to spell what a grammar forces.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl GrammarVocab {
    /// `stops`: the tokens that end an answer, all allowed wherever a grammar may end.
    pub fn new(tokenizer: &Tokenizer, stops: &[i32]) -> Result<Self> {
        let size = tokenizer.vocab_size();
        let stop_ids: Vec<TokenId> = stops
            .iter()
            .filter(|id| (0..size).contains(id))
            .map(|id| *id as TokenId)
            .collect();
        let Some(first) = stop_ids.first() else {
            return Err(TextError::unsupported(
                "this model has no stop token, so that a constrained answer could never end; give \
                 eos_token_id in its config.json",
            ));
        };
        let words: Vec<Vec<u8>> = (0..size)
            .map(|id| word_of(tokenizer, id, stops.contains(&id)))
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, *first), &words);
        let trie = trie.with_eos_tokens(&stop_ids);
        let vocabulary: TokEnv = Arc::new(Vocabulary { trie });
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&vocabulary, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|e| TextError::internal(one_line(&e.to_string())))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, size })
    }

    /// Compiles a grammar. `lenient`: keywords of a JSON schema that cannot be enforced are ignored
    /// instead of refused.
    pub fn compile(&self, kind: GrammarKind, text: &str, lenient: bool) -> Result<GrammarState> {
        let grammar = match kind {
            GrammarKind::JsonSchema => {
                TopLevelGrammar::from_json_schema(read_schema(text, lenient)?)
            }
            GrammarKind::Regex => TopLevelGrammar::from_regex(text),
            GrammarKind::Lark => TopLevelGrammar::from_lark(text.to_owned()),
            GrammarKind::Gbnf => TopLevelGrammar::from_lark(gbnf::to_lark(text)?),
        };
        let parser = self.factory.create_parser(grammar);
        let parser = parser.map_err(|e| TextError::invalid(one_line(&e.to_string())))?;
        Ok(GrammarState {
            matcher: Matcher::new(Ok(parser)),
            vocab_size: self.size,
        })
    }
}

/// Control tokens get a mark that no text has: a grammar never writes one by its spelling.
fn word_of(tokenizer: &Tokenizer, id: i32, is_stop: bool) -> Vec<u8> {
    let mut bytes = if is_stop || tokenizer.is_special(id) {
        let mut marked = vec![TokTrie::SPECIAL_TOKEN_MARKER];
        marked.extend(tokenizer.text_of(id).into_bytes());
        marked
    } else {
        tokenizer.token_bytes(id)
    };
    if bytes.len() > LONGEST_TOKEN {
        bytes.clear();
    }
    bytes
}

fn read_schema(text: &str, lenient: bool) -> Result<Value> {
    let schema = serde_json::from_str(text)
        .map_err(|e| TextError::invalid(format!("the schema is not valid JSON: {e}")))?;
    let mut schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => Map::new(),
        other => {
            return Err(TextError::invalid(format!(
                "a JSON schema is an object, not {other}"
            )))
        }
    };
    schema
        .entry("x-guidance")
        .or_insert_with(|| json!({"whitespace_pattern": JSON_SPACE, "lenient": lenient}));
    Ok(Value::Object(schema))
}

/// Messages of the crate may carry an excerpt of the grammar on further lines, and a mark of its own.
fn one_line(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    first
        .trim()
        .trim_end_matches("<non-verbose/>")
        .trim()
        .to_owned()
}

/// Where one text stands in its grammar. A clone goes its own way from here.
#[derive(Clone)]
pub struct GrammarState {
    matcher: Matcher,
    vocab_size: i32,
}

impl GrammarState {
    /// Writes a bit for each token that may come next, the lowest bit of the first word for token 0.
    /// After the end of the grammar: the stop tokens.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(failed)?;
        let bits = allowed.as_slice();
        let shared = bits.len().min(words.len());
        words[..shared].copy_from_slice(&bits[..shared]);
        words[shared..].fill(0);
        Ok(())
    }

    pub fn accept(&mut self, id: i32) -> Result<()> {
        self.matcher.consume_token(id as TokenId).map_err(failed)
    }

    /// How many of `ids`, one after the other, the grammar would take.
    pub fn count_valid(&mut self, ids: &[i32]) -> Result<usize> {
        // A model may have more tokens than its tokenizer; asking for those is an error, and no text.
        let known = 0..self.vocab_size;
        let ids: Vec<TokenId> = ids
            .iter()
            .take_while(|id| known.contains(*id))
            .map(|id| *id as TokenId)
            .collect();
        self.matcher.validate_tokens(&ids).map_err(failed)
    }

    /// Nothing but a stop token may follow, or one came.
    pub fn is_stopped(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn failed(error: impl Display) -> TextError {
    TextError::invalid(format!(
        "the grammar cannot go on here: {}",
        one_line(&error.to_string())
    ))
}
