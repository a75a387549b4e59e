//! The functions of include/mlxr_text.h. All unsafe code of the crate that touches foreign memory is
//! here; each function converts, calls one method and converts back.
#![allow(clippy::missing_safety_doc)] // The header states the rules, once for all functions.
use std::any::Any;
use std::borrow::Cow;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use crate::chat::ChatTemplate;
use crate::decoding::Stream;
use crate::error::{Result, Status, TextError};
use crate::grammar::{GrammarKind, GrammarState, GrammarVocab};
use crate::tokenizer::Tokenizer;
use crate::vocab::{TokenKind, Vocab};

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Span {
    data: *const u8,
    size: usize,
}

/// A boxed slice that the caller owns.
#[repr(C)]
pub struct Owned<T> {
    data: *mut T,
    size: usize,
}

#[repr(C)]
pub struct RawVocab {
    model: Span,
    pre: Span,
    tokens: *const Span,
    scores: *const f32,
    token_types: *const i32,
    token_count: usize,
    merges: *const Span,
    merge_count: usize,
    bos: i32,
    eos: i32,
    unk: i32,
    add_bos: u8,
    add_eos: u8,
    add_space_prefix: u8,
}

impl Span {
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        slice(self.data, self.size)
    }
    unsafe fn text<'a>(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes())
    }
    unsafe fn strict(self, what: &str) -> Result<String> {
        let text = std::str::from_utf8(self.bytes());
        let text = text.map_err(|_| {
            TextError::corrupt(format!(
                "the GGUF vocabulary holds a {what} that is not UTF-8"
            ))
        })?;
        Ok(text.to_owned())
    }
}

impl<T> Owned<T> {
    fn new(items: Vec<T>) -> Self {
        let items = items.into_boxed_slice();
        let size = items.len();
        Self {
            data: Box::into_raw(items).cast(),
            size,
        }
    }
    unsafe fn free(self) {
        if !self.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(
                self.data, self.size,
            )));
        }
    }
}

unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 || data.is_null() {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

/// Runs `body`, stores its value, and turns errors and panics into a status and a sentence.
unsafe fn guard<T>(out: *mut T, error: *mut Owned<u8>, body: impl FnOnce() -> Result<T>) -> Status {
    quiet_panics();
    let result = catch_unwind(AssertUnwindSafe(body));
    let failure = match result {
        Ok(Ok(value)) => {
            out.write(value);
            return Status::Ok;
        }
        Ok(Err(failure)) => failure,
        Err(panic) => TextError::internal(format!("The text library failed: {}", said(&*panic))),
    };
    if !error.is_null() {
        error.write(Owned::new(failure.message.into_bytes()));
    }
    failure.status
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

/// A panic is reported through the caller's error; the default hook would also write to the
/// program's standard error.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

fn boxed<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_text_buffer_free(buffer: Owned<u8>) {
    buffer.free();
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_text_ids_free(ids: Owned<i32>) {
    ids.free();
}

// ---- tokenizers ----

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_from_json(
    json: Span,
    tokenizer: *mut *mut Tokenizer,
    error: *mut Owned<u8>,
) -> Status {
    guard(tokenizer, error, || {
        Tokenizer::from_json(&json.text()).map(boxed)
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_from_vocab(
    raw: *const RawVocab,
    tokenizer: *mut *mut Tokenizer,
    error: *mut Owned<u8>,
) -> Status {
    guard(tokenizer, error, || {
        let raw = &*raw;
        let vocab = read_vocab(raw)?;
        Tokenizer::from_vocab(&vocab, raw.add_bos != 0, raw.add_eos != 0).map(boxed)
    })
}

unsafe fn read_vocab(raw: &RawVocab) -> Result<Vocab> {
    let tokens = slice(raw.tokens, raw.token_count).iter();
    let merges = slice(raw.merges, raw.merge_count).iter();
    let present = |data_is_null: bool| if data_is_null { 0 } else { raw.token_count };
    let codes = slice(raw.token_types, present(raw.token_types.is_null()));
    let mut kinds: Vec<TokenKind> = codes.iter().map(|c| TokenKind::from_gguf(*c)).collect();
    kinds.resize(raw.token_count, TokenKind::Normal);
    Ok(Vocab {
        model: raw.model.strict("name")?,
        pre: raw.pre.strict("name")?,
        tokens: tokens.map(|t| t.strict("token")).collect::<Result<_>>()?,
        scores: slice(raw.scores, present(raw.scores.is_null())).to_vec(),
        kinds,
        merges: merges.map(|m| m.strict("merge")).collect::<Result<_>>()?,
        bos: u32::try_from(raw.bos).ok(),
        eos: u32::try_from(raw.eos).ok(),
        unk: u32::try_from(raw.unk).ok(),
        add_space_prefix: raw.add_space_prefix != 0,
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_encode(
    tokenizer: &Tokenizer,
    text: Span,
    add_special: u8,
    parse_special: u8,
    ids: *mut Owned<i32>,
    error: *mut Owned<u8>,
) -> Status {
    guard(ids, error, || {
        let ids = tokenizer.encode(&text.text(), add_special != 0, parse_special != 0)?;
        Ok(Owned::new(ids.into_iter().map(|id| id as i32).collect()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_decode(
    tokenizer: &Tokenizer,
    ids: *const i32,
    count: usize,
    skip_special: u8,
    text: *mut Owned<u8>,
    error: *mut Owned<u8>,
) -> Status {
    guard(text, error, || {
        let decoded = tokenizer.decode(slice(ids, count), skip_special != 0);
        Ok(Owned::new(decoded.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_token_bytes(
    tokenizer: &Tokenizer,
    id: i32,
    bytes: *mut Owned<u8>,
    error: *mut Owned<u8>,
) -> Status {
    guard(bytes, error, || Ok(Owned::new(tokenizer.token_bytes(id))))
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_token_id(tokenizer: &Tokenizer, token: Span) -> i32 {
    let mut id = -1;
    guard(&mut id, std::ptr::null_mut(), || {
        let found = tokenizer.token_id(&token.text());
        Ok(found.map_or(-1, |id| id as i32))
    });
    id
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_is_special(tokenizer: &Tokenizer, id: i32) -> u8 {
    u8::from(tokenizer.is_special(id))
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_vocab_size(tokenizer: &Tokenizer) -> i32 {
    tokenizer.vocab_size()
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_stream_push(
    tokenizer: &Tokenizer,
    stream: &mut Stream,
    id: i32,
    skip_special: u8,
    text: *mut Owned<u8>,
    error: *mut Owned<u8>,
) -> Status {
    guard(text, error, || {
        let mut piece = String::new();
        tokenizer.push(stream, id, skip_special != 0, &mut piece);
        Ok(Owned::new(piece.into_bytes()))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_tokenizer_stream_end(
    stream: &mut Stream,
    text: *mut Owned<u8>,
    error: *mut Owned<u8>,
) -> Status {
    guard(text, error, || {
        let mut piece = String::new();
        stream.end(&mut piece);
        Ok(Owned::new(piece.into_bytes()))
    })
}

// ---- chat templates ----

#[no_mangle]
pub unsafe extern "C" fn mlxr_chat_template_new(
    source: Span,
    chat_template: *mut *mut ChatTemplate,
    error: *mut Owned<u8>,
) -> Status {
    guard(chat_template, error, || {
        ChatTemplate::new(&source.text()).map(boxed)
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_chat_template_free(chat_template: *mut ChatTemplate) {
    if !chat_template.is_null() {
        drop(Box::from_raw(chat_template));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_chat_template_render(
    chat_template: &ChatTemplate,
    variables: Span,
    text: *mut Owned<u8>,
    error: *mut Owned<u8>,
) -> Status {
    guard(text, error, || {
        let rendered = chat_template.render(&variables.text())?;
        Ok(Owned::new(rendered.into_bytes()))
    })
}

// ---- constrained decoding ----

/// A foreign enumeration, before it is known to hold one of ours.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct RawKind(i32);

impl RawKind {
    fn read(self) -> Result<GrammarKind> {
        [
            GrammarKind::JsonSchema,
            GrammarKind::Regex,
            GrammarKind::Lark,
            GrammarKind::Gbnf,
        ]
        .into_iter()
        .find(|kind| *kind as i32 == self.0)
        .ok_or_else(|| TextError::internal(format!("There is no grammar kind {}", self.0)))
    }
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_vocab_new(
    tokenizer: &Tokenizer,
    stops: *const i32,
    count: usize,
    vocab: *mut *mut GrammarVocab,
    error: *mut Owned<u8>,
) -> Status {
    guard(vocab, error, || {
        GrammarVocab::new(tokenizer, slice(stops, count)).map(boxed)
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_vocab_free(vocab: *mut GrammarVocab) {
    if !vocab.is_null() {
        drop(Box::from_raw(vocab));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_new(
    vocab: &GrammarVocab,
    kind: RawKind,
    text: Span,
    lenient: u8,
    grammar: *mut *mut GrammarState,
    error: *mut Owned<u8>,
) -> Status {
    guard(grammar, error, || {
        let compiled = vocab.compile(kind.read()?, &text.text(), lenient != 0)?;
        Ok(boxed(compiled))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_clone(
    grammar: &GrammarState,
    copy: *mut *mut GrammarState,
    error: *mut Owned<u8>,
) -> Status {
    guard(copy, error, || Ok(boxed(grammar.clone())))
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_free(grammar: *mut GrammarState) {
    if !grammar.is_null() {
        drop(Box::from_raw(grammar));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_mask(
    grammar: &mut GrammarState,
    words: *mut u32,
    count: usize,
    error: *mut Owned<u8>,
) -> Status {
    guard(&mut (), error, || {
        grammar.mask(std::slice::from_raw_parts_mut(words, count))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_accept(
    grammar: &mut GrammarState,
    id: i32,
    error: *mut Owned<u8>,
) -> Status {
    guard(&mut (), error, || grammar.accept(id))
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_count_valid(
    grammar: &mut GrammarState,
    ids: *const i32,
    count: usize,
    valid: *mut usize,
    error: *mut Owned<u8>,
) -> Status {
    guard(valid, error, || grammar.count_valid(slice(ids, count)))
}

#[no_mangle]
pub unsafe extern "C" fn mlxr_grammar_is_stopped(grammar: &GrammarState) -> u8 {
    u8::from(grammar.is_stopped())
}
