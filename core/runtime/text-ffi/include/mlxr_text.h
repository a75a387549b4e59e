// The C ABI of the Rust text library: tokenizers, chat templates, constrained decoding. Its C++
// faces are core/runtime/tokenizer/tokenizer.h, core/runtime/chat/chat_template.h and
// core/runtime/constraint/constraint.h; nothing else calls it.
//
// Rules for every function:
//  - Text goes in as a span of UTF-8 bytes that the callee only reads during the call. Bytes that
//    are not UTF-8 count as U+FFFD, except in `mlxr_text_span`s of a vocabulary (see there).
//  - Text and ids come out in a buffer that the caller gives back with the matching *_free. A call
//    writes its output only when it returns MLXR_TEXT_OK, and `error` (a sentence) only otherwise.
//    `error` may be null.
//  - Handles are immutable (but mlxr_grammar): any number of threads may use one at a time. They
//    are freed once, when no call on them is running. Freeing null does nothing.
//  - No panic of Rust crosses the border: it becomes MLXR_TEXT_INTERNAL.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mlxr_text_status {
  MLXR_TEXT_OK = 0,
  MLXR_TEXT_CORRUPT = 1,      // the file or template is damaged or not what it says
  MLXR_TEXT_UNSUPPORTED = 2,  // well formed, but this library cannot do it
  MLXR_TEXT_INVALID = 3,      // the caller's input is wrong, or the template refused it
  MLXR_TEXT_INTERNAL = 4,     // a bug of this library
} mlxr_text_status;

typedef struct mlxr_text_span {
  const uint8_t* data;  // may be null when size is 0
  size_t size;
} mlxr_text_span;

typedef struct mlxr_text_buffer {
  uint8_t* data;
  size_t size;
} mlxr_text_buffer;

typedef struct mlxr_text_ids {
  int32_t* data;
  size_t size;
} mlxr_text_ids;

void mlxr_text_buffer_free(mlxr_text_buffer buffer);
void mlxr_text_ids_free(mlxr_text_ids ids);

// ---- tokenizers ----

typedef struct mlxr_tokenizer mlxr_tokenizer;

// The vocabulary of a GGUF file (tokenizer.ggml.*). Arrays are read only during the call. A token
// or merge that is not UTF-8 makes the vocabulary corrupt.
typedef struct mlxr_text_vocab {
  mlxr_text_span model;          // tokenizer.ggml.model
  mlxr_text_span pre;            // tokenizer.ggml.pre, empty when the file has none
  const mlxr_text_span* tokens;  // token_count of each of the next three
  const float* scores;           // or null
  const int32_t* token_types;    // or null: all normal
  size_t token_count;
  const mlxr_text_span* merges;  // merge_count of "left right"
  size_t merge_count;
  int32_t bos, eos, unk;  // -1: none
  uint8_t add_bos, add_eos, add_space_prefix;
} mlxr_text_vocab;

// Compiles the content of a tokenizer.json. CORRUPT or UNSUPPORTED on failure.
mlxr_text_status mlxr_tokenizer_from_json(mlxr_text_span json, mlxr_tokenizer** tokenizer,
                                          mlxr_text_buffer* error);
// Compiles a GGUF vocabulary. UNSUPPORTED names an unknown vocabulary kind or pre-tokenizer.
mlxr_text_status mlxr_tokenizer_from_vocab(const mlxr_text_vocab* vocab, mlxr_tokenizer** tokenizer,
                                           mlxr_text_buffer* error);
void mlxr_tokenizer_free(mlxr_tokenizer* tokenizer);

// Text to ids. add_special: add BOS/EOS as the model was trained. parse_special: the text of a
// control token becomes that token; otherwise it is ordinary text.
mlxr_text_status mlxr_tokenizer_encode(const mlxr_tokenizer* tokenizer, mlxr_text_span text,
                                       uint8_t add_special, uint8_t parse_special,
                                       mlxr_text_ids* ids, mlxr_text_buffer* error);
// Ids to text. An id outside the vocabulary stands for nothing.
mlxr_text_status mlxr_tokenizer_decode(const mlxr_tokenizer* tokenizer, const int32_t* ids,
                                       size_t count, uint8_t skip_special, mlxr_text_buffer* text,
                                       mlxr_text_buffer* error);
// The bytes that one token stands for, possibly a part of a character; empty for an unknown id.
mlxr_text_status mlxr_tokenizer_token_bytes(const mlxr_tokenizer* tokenizer, int32_t id,
                                            mlxr_text_buffer* bytes, mlxr_text_buffer* error);
// The id of a token given as the vocabulary spells it, or -1.
int32_t mlxr_tokenizer_token_id(const mlxr_tokenizer* tokenizer, mlxr_text_span token);
// 1 for a control token (and for the unknown token of a GGUF vocabulary), otherwise 0.
uint8_t mlxr_tokenizer_is_special(const mlxr_tokenizer* tokenizer, int32_t id);
// Largest id + 1, added tokens included.
int32_t mlxr_tokenizer_vocab_size(const mlxr_tokenizer* tokenizer);

// Where a stream of tokens stands. All zero at the start; a plain value, free to copy.
typedef struct mlxr_text_stream {
  uint8_t started;    // a token was taken
  uint8_t stripped;   // leading spaces dropped so far, 255 when no more may be
  uint8_t tail_size;  // bytes of an incomplete character
  uint8_t tail[3];
} mlxr_text_stream;

// Takes one token, gives the text that it completes. The concatenation of all texts, the one of
// mlxr_tokenizer_stream_end included, is what mlxr_tokenizer_decode gives for all ids.
mlxr_text_status mlxr_tokenizer_stream_push(const mlxr_tokenizer* tokenizer,
                                            mlxr_text_stream* stream, int32_t id,
                                            uint8_t skip_special, mlxr_text_buffer* text,
                                            mlxr_text_buffer* error);
// Ends the stream: U+FFFD when a character was incomplete. The stream is as new afterwards.
mlxr_text_status mlxr_tokenizer_stream_end(mlxr_text_stream* stream, mlxr_text_buffer* text,
                                           mlxr_text_buffer* error);

// ---- chat templates ----

typedef struct mlxr_chat_template mlxr_chat_template;

// Compiles a Jinja template in the dialect of Hugging Face transformers. CORRUPT names the line.
mlxr_text_status mlxr_chat_template_new(mlxr_text_span source, mlxr_chat_template** chat_template,
                                        mlxr_text_buffer* error);
void mlxr_chat_template_free(mlxr_chat_template* chat_template);
// Renders. `variables` is a JSON object: what the template sees, by name, in the order of its keys.
// INVALID carries the template's own words when it called raise_exception.
mlxr_text_status mlxr_chat_template_render(const mlxr_chat_template* chat_template,
                                           mlxr_text_span variables, mlxr_text_buffer* text,
                                           mlxr_text_buffer* error);

// ---- constrained decoding ----

// A vocabulary as grammars see it: a trie of the bytes of all tokens. Takes its time to build
// (0.6 s for 150,000 tokens) and is shared by all grammars of a model.
typedef struct mlxr_grammar_vocab mlxr_grammar_vocab;
// A compiled grammar and where one text stands in it. One thread at a time may use it; clones of
// one are independent (they share what the lexer has learnt, behind a lock).
typedef struct mlxr_grammar mlxr_grammar;

typedef enum mlxr_grammar_kind {
  MLXR_GRAMMAR_JSON_SCHEMA = 0,
  MLXR_GRAMMAR_REGEX = 1,  // of the whole text
  MLXR_GRAMMAR_LARK = 2,   // llguidance's dialect; starts at `start`
  MLXR_GRAMMAR_GBNF = 3,   // llama.cpp's; starts at `root`
} mlxr_grammar_kind;

// `stops`: the tokens that end an answer; all are allowed wherever a grammar may end. UNSUPPORTED
// when none of them is in the vocabulary. Nothing refers to the tokenizer afterwards.
mlxr_text_status mlxr_grammar_vocab_new(const mlxr_tokenizer* tokenizer, const int32_t* stops,
                                        size_t count, mlxr_grammar_vocab** vocab,
                                        mlxr_text_buffer* error);
void mlxr_grammar_vocab_free(mlxr_grammar_vocab* vocab);

// Compiles. INVALID says what is wrong. lenient: what a JSON schema says beyond what can be
// enforced is ignored instead of refused. Nothing refers to `vocab` afterwards.
mlxr_text_status mlxr_grammar_new(const mlxr_grammar_vocab* vocab, mlxr_grammar_kind kind,
                                  mlxr_text_span text, uint8_t lenient, mlxr_grammar** grammar,
                                  mlxr_text_buffer* error);
mlxr_text_status mlxr_grammar_clone(const mlxr_grammar* grammar, mlxr_grammar** copy,
                                    mlxr_text_buffer* error);
void mlxr_grammar_free(mlxr_grammar* grammar);

// A bit for each token that may come next, the lowest bit of words[0] for token 0; tokens beyond
// the vocabulary are not allowed. After the end: the stop tokens.
mlxr_text_status mlxr_grammar_mask(mlxr_grammar* grammar, uint32_t* words, size_t count,
                                   mlxr_text_buffer* error);
// Takes the token that came. INVALID when the grammar does not allow it; only freeing is left then.
mlxr_text_status mlxr_grammar_accept(mlxr_grammar* grammar, int32_t id, mlxr_text_buffer* error);
// How many of the tokens, one after the other, would be taken; the state stays.
mlxr_text_status mlxr_grammar_count_valid(mlxr_grammar* grammar, const int32_t* ids, size_t count,
                                          size_t* valid, mlxr_text_buffer* error);
// 1 when the text is complete: a stop token came, or nothing else could.
uint8_t mlxr_grammar_is_stopped(const mlxr_grammar* grammar);

#ifdef __cplusplus
}
#endif
