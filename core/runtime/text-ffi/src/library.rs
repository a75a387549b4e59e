//! Tokenizers that the `tokenizers` crate runs: any tokenizer.json, and GGUF's byte-level BPE.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::AHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::models::TrainerWrapper;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, Token, TokenizerImpl,
};

use crate::decoding::Decoding;
use crate::error::{Result, TextError};
use crate::splits;
use crate::tokenizer::{Parts, SpecialIds};
use crate::vocab::{TokenKind, Vocab};

type Pipeline = TokenizerImpl<
    SharedModel,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// One model under two pipelines. It also answers for the added tokens, so that both give each of
/// them the id of the file (the crate would number them anew).
#[derive(Clone)]
struct SharedModel {
    model: Arc<ModelWrapper>,
    added: Arc<AHashMap<String, u32>>,
}

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        self.model.tokenize(sequence)
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        let added = self.added.get(token).copied();
        added.or_else(|| self.model.token_to_id(token))
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.model.id_to_token(id)
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.model.get_vocab()
    }
    fn get_vocab_size(&self) -> usize {
        self.model.get_vocab_size()
    }
    fn save(&self, folder: &Path, prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        self.model.save(folder, prefix)
    }
    fn get_trainer(&self) -> TrainerWrapper {
        self.model.get_trainer()
    }
}

/// An added token with the id that its file gives it.
struct Added {
    id: u32,
    token: AddedToken,
}

pub struct Library {
    /// Knows every added token.
    parsing: Pipeline,
    /// Knows those that ordinary text may contain: control tokens are text to it.
    plain: Pipeline,
    spelling_of_added: AHashMap<u32, String>,
}

impl Library {
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let pipeline = if parse_special {
            &self.parsing
        } else {
            &self.plain
        };
        let encoding = pipeline.encode_fast(text, add_special);
        let encoding = encoding
            .map_err(|e| TextError::invalid(format!("The text cannot be tokenized: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.parsing.token_to_id(token)
    }

    /// The spelling of a token, and whether it was added (so that it reads as it is spelled).
    pub fn spelling(&self, id: u32) -> Option<(String, bool)> {
        if let Some(token) = self.spelling_of_added.get(&id) {
            return Some((token.clone(), true));
        }
        Some((self.parsing.get_model().id_to_token(id)?, false))
    }

    fn assemble(stages: Stages, model: ModelWrapper, added: Vec<Added>) -> Self {
        let ids = added.iter().map(|a| (a.token.content.clone(), a.id));
        let shared = SharedModel {
            model: Arc::new(model),
            added: Arc::new(ids.collect()),
        };
        let pipeline = |tokens: Vec<AddedToken>| {
            let mut pipeline = Pipeline::new(shared.clone());
            pipeline.with_normalizer(stages.normalizer.clone());
            pipeline.with_pre_tokenizer(stages.pre_tokenizer.clone());
            pipeline.with_post_processor(stages.post_processor.clone());
            pipeline.add_tokens(&tokens);
            pipeline
        };
        let every = || added.iter().map(|a| a.token.clone());
        Self {
            parsing: pipeline(every().collect()),
            plain: pipeline(every().filter(|token| !token.special).collect()),
            spelling_of_added: added
                .iter()
                .map(|a| (a.id, a.token.content.clone()))
                .collect(),
        }
    }
}

#[derive(Default)]
struct Stages {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
}

// ---- tokenizer.json ----

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default)]
    added_tokens: Option<Vec<AddedEntry>>,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct AddedEntry {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct ModelHead {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    ignore_merges: bool,
    unk_token: Option<String>,
}

pub fn from_json(json: &str) -> Result<Parts<Library>> {
    let broken = |e: serde_json::Error| {
        TextError::corrupt(format!(
            "tokenizer.json cannot be read ({e}); it is damaged or not a Hugging Face tokenizer, \
             get the model's files again"
        ))
    };
    let document: Document = serde_json::from_str(json).map_err(broken)?;
    let decoding = Decoding::from_json(&document.decoder)?;
    let entries = document.added_tokens.unwrap_or_default();
    let added: Vec<Added> = entries
        .into_iter()
        .filter(|e| !e.content.is_empty())
        .map(Added::from)
        .collect();
    let specials: Vec<&Added> = added.iter().filter(|a| a.token.special).collect();
    let special_ids: SpecialIds = specials.iter().map(|a| a.id).collect();
    let model = read_model(document.model, &specials).map_err(broken)?;

    let largest = added.iter().map(|a| u64::from(a.id) + 1).max().unwrap_or(0);
    let size = largest.max(size_of(&model));
    let Ok(vocab_size) = i32::try_from(size) else {
        return Err(TextError::corrupt(format!(
            "tokenizer.json gives a token the id {}, beyond any vocabulary; get the model's files \
             again",
            size - 1
        )));
    };
    let stages = Stages {
        normalizer: document.normalizer,
        pre_tokenizer: document.pre_tokenizer,
        post_processor: document.post_processor,
    };
    Ok(Parts {
        backend: Library::assemble(stages, model, added),
        decoding,
        special_ids,
        vocab_size,
    })
}

impl From<AddedEntry> for Added {
    fn from(e: AddedEntry) -> Self {
        let token = AddedToken {
            content: e.content,
            single_word: e.single_word,
            lstrip: e.lstrip,
            rstrip: e.rstrip,
            normalized: e.normalized,
            special: e.special,
        };
        Self { id: e.id, token }
    }
}

/// BPE is read straight from the text: through a generic value, as the crate does it, a large
/// vocabulary would take several times as long.
fn read_model(raw: &RawValue, specials: &[&Added]) -> serde_json::Result<ModelWrapper> {
    let head: ModelHead = serde_json::from_str(raw.get())?;
    let bpe = head.kind.as_deref() == Some("BPE");
    if bpe && !head.ignore_merges {
        return serde_json::from_str::<BPE>(raw.get()).map(ModelWrapper::BPE);
    }
    let mut model: Value = serde_json::from_str(raw.get())?;
    if hide_specials(&mut model, specials, head.unk_token.as_deref()) || !bpe {
        return serde_json::from_value(model);
    }
    serde_json::from_str::<BPE>(raw.get()).map(ModelWrapper::BPE)
}

/// The largest id + 1: a file may leave ids out, and control tokens may have been taken out of the
/// middle.
fn size_of(model: &ModelWrapper) -> u64 {
    let ids = model.get_vocab().into_values();
    ids.max().map_or(0, |id| u64::from(id) + 1)
}

/// These models look whole words up in their vocabulary: typed text that spells a control token
/// would become it. Takes the control tokens out (a pipeline knows them as added tokens). True when
/// something was taken out.
fn hide_specials(model: &mut Value, specials: &[&Added], unk_token: Option<&str>) -> bool {
    let mut changed = false;
    for special in specials {
        let content = special.token.content.as_str();
        if unk_token == Some(content) {
            continue;
        }
        match &mut model["vocab"] {
            Value::Object(vocab) => changed |= vocab.shift_remove(content).is_some(),
            Value::Array(pieces) => {
                // Unigram: ids are places, so the piece stays, under a name that no text has.
                if let Some(piece) = pieces.get_mut(special.id as usize) {
                    if piece[0] == content {
                        piece[0] = Value::from(format!("\u{fdd0}{}\u{fdd0}", special.id));
                        changed = true;
                    }
                }
            }
            _ => {}
        }
    }
    changed
}

// ---- GGUF, byte-level BPE ----

pub fn from_vocab(vocab: &Vocab) -> Result<Parts<Library>> {
    let split = splits::by_name(&vocab.pre)?;
    let mut ids = AHashMap::with_capacity(vocab.tokens.len());
    let mut added = Vec::new();
    for (id, (token, kind)) in (0u32..).zip(vocab.tokens.iter().zip(&vocab.kinds)) {
        let special = kind.is_special();
        if !special && *kind != TokenKind::Unused {
            ids.insert(token.clone(), id);
        }
        if (special || *kind == TokenKind::UserDefined) && !token.is_empty() {
            added.push(Added {
                id,
                token: AddedToken::from(token.clone(), special).normalized(false),
            });
        }
    }
    let special_ids = added.iter().filter(|a| a.token.special).map(|a| a.id);
    let special_ids = special_ids.collect();
    let merges = vocab.merges.iter().map(|m| split_merge(m));
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges.collect::<Result<Vec<_>>>()?)
        .ignore_merges(split.ignore_merges)
        .build()
        .map_err(|e| {
            TextError::corrupt(format!(
                "the GGUF vocabulary's merges do not fit its tokens ({e}); get the file again"
            ))
        })?;
    let stages = Stages {
        normalizer: split.normalizer,
        pre_tokenizer: Some(split.pre_tokenizer),
        post_processor: None,
    };
    Ok(Parts {
        backend: Library::assemble(stages, ModelWrapper::BPE(bpe), added),
        decoding: Decoding::byte_level(),
        special_ids,
        vocab_size: vocab.tokens.len() as i32,
    })
}

// ---- GGUF, WordPiece ----

/// A word begins with U+2581 in such a file, and what goes on with a word is bare; "[PAD]" and the
/// like are spelled as they are. Texts are lowercased: the file does not say otherwise.
pub fn word_pieces_from_vocab(vocab: &Vocab) -> Result<Parts<Library>> {
    let mut ids = AHashMap::with_capacity(vocab.tokens.len());
    let mut added = Vec::new();
    for (id, (token, kind)) in (0u32..).zip(vocab.tokens.iter().zip(&vocab.kinds)) {
        if kind.is_special() && !token.is_empty() {
            added.push(Added {
                id,
                token: AddedToken::from(token.clone(), true).normalized(false),
            });
        } else if let Some(word) = token.strip_prefix('\u{2581}') {
            ids.insert(word.to_owned(), id);
        } else if token.starts_with('[') && token.ends_with(']') {
            ids.insert(token.clone(), id);
        } else {
            ids.insert(format!("##{token}"), id);
        }
    }
    let unknown = vocab.unk.map(|id| vocab.tokens[id as usize].clone());
    let unknown = unknown.unwrap_or_else(|| "[UNK]".to_owned());
    let place = vocab.tokens.iter().position(|token| *token == unknown);
    let Some(place) = place else {
        return Err(TextError::corrupt(
            "the GGUF vocabulary has no token for unknown words ('[UNK]'); get the file again"
                .to_owned(),
        ));
    };
    ids.insert(unknown.clone(), place as u32);
    let special_ids = added.iter().map(|a| a.id).collect();
    let model = WordPiece::builder()
        .vocab(ids)
        .unk_token(unknown)
        .build()
        .map_err(|e| TextError::corrupt(format!("the GGUF vocabulary cannot be read ({e})")))?;
    let stages = Stages {
        normalizer: Some(BertNormalizer::new(true, true, None, true).into()),
        pre_tokenizer: Some(BertPreTokenizer.into()),
        post_processor: None,
    };
    Ok(Parts {
        backend: Library::assemble(stages, ModelWrapper::WordPiece(model), added),
        decoding: Decoding::word_pieces("##", true),
        special_ids,
        vocab_size: vocab.tokens.len() as i32,
    })
}

fn split_merge(merge: &str) -> Result<(String, String)> {
    // A space in the first place belongs to the left part.
    let first = merge.chars().next().map_or(0, char::len_utf8);
    match merge[first..].split_once(' ') {
        Some((left, right)) if !right.is_empty() => {
            Ok((merge[..first].to_owned() + left, right.to_owned()))
        }
        _ => Err(TextError::corrupt(format!(
            "tokenizer.ggml.merges holds '{merge}', which is not two tokens with a space between; \
             get the GGUF file again"
        ))),
    }
}
