// The C ABI of the Rust text library: tokenizers and chat templates. Its C++ faces are
// core/runtime/tokenizer/tokenizer.h and core/runtime/chat/chat_template.h; nothing else calls it.
//
// Rules for every function:
//  - Text goes in as a span of UTF-8 bytes that the callee only reads during the call. Bytes that
//    are not UTF-8 count as U+FFFD, except in `mlxr_text_span`s of a vocabulary (see there).
//  - Text and ids come out in a buffer that the caller gives back with the matching *_free. A call
//    writes its output only when it returns MLXR_TEXT_OK, and `error` (a sentence) only otherwise.
//    `error` may be null.
//  - Handles are immutable: any number of threads may use one at a time. They are freed once, when
//    no call on them is running. Freeing null does nothing.
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

#ifdef __cplusplus
}
#endif
