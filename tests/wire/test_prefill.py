"""An answer goes on from a last message of the assistant's, in every API that has conversations."""

import anthropic
import ollama
import openai
import pytest
from grpc_client import GrpcClient, text_of

CHAT, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/messages", "/api/chat"
WHO = {"role": "user", "content": "Who are you?"}
BEGUN = "I am a robot called"
OPEN = [WHO, {"role": "assistant", "content": BEGUN}]
PROMPT = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
LIMIT = 12


@pytest.fixture
def http(own):
    with own.client() as client:
        yield client


def completed(http, prompt):
    """What the model says after a text: the text, and the number of tokens before it."""
    body = {"prompt": prompt, "temperature": 0, "max_tokens": LIMIT}
    answer = http.post("/v1/completions", json=body).json()
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens"]


def chat(http, messages=OPEN, status=200, **fields):
    body = {"messages": messages, "temperature": 0, "max_tokens": LIMIT, **fields}
    answer = http.post(CHAT, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def said(answer):
    return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"]


def test_chat_goes_on(http):
    text, tokens = completed(http, PROMPT + BEGUN)
    assert text
    assert said(chat(http)) == (text, tokens)
    assert said(chat(http, continue_final_message=True)) == (text, tokens)
    both = {"continue_final_message": True, "add_generation_prompt": False}
    assert said(chat(http, **both)) == (text, tokens)
    parts = [{"type": "text", "text": BEGUN[:4]}, {"type": "text", "text": BEGUN[4:]}]
    assert said(chat(http, [WHO, OPEN[1] | {"content": parts}])) == (text, tokens)


def test_the_openai_client_streams_it(own, http):
    text, _ = completed(http, PROMPT + BEGUN)
    with openai.OpenAI(base_url=own.url + "/v1", api_key="none", max_retries=0) as client:
        chunks = client.chat.completions.create(
            model="mlxr-demo", messages=OPEN, temperature=0, max_tokens=LIMIT, stream=True
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == text


def test_a_new_turn_where_that_is_asked_for(http):
    closed = PROMPT + BEGUN + "<|im_end|>\n"
    assert said(chat(http, continue_final_message=False)) == completed(
        http, closed + "<|im_start|>assistant\n"
    )
    assert said(chat(http, add_generation_prompt=True)) == completed(
        http, closed + "<|im_start|>assistant\n"
    )
    neither = {"continue_final_message": False, "add_generation_prompt": False}
    assert said(chat(http, **neither))[1] == completed(http, closed)[1]
    assert (
        said(chat(http, [WHO], add_generation_prompt=False))[1]
        == (completed(http, PROMPT.removesuffix("<|im_start|>assistant\n"))[1])
    )


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        (OPEN, {"continue_final_message": True, "add_generation_prompt": True}, "add_generation"),
        ([WHO], {"continue_final_message": True}, "continue_final_message"),
        (OPEN, {"continue_final_message": "yes"}, "continue_final_message"),
    ],
)
def test_what_contradicts_itself_is_refused(http, messages, fields, param):
    assert chat(http, messages, 400, **fields)["error"]["param"].startswith(param)


def test_calls_are_not_gone_on_from(http):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = [WHO, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert chat(http, calls)["choices"]
    wrong = chat(http, calls, 400, continue_final_message=True)
    assert wrong["error"]["param"] == "continue_final_message"


def test_an_empty_message_begins_nothing(http):
    assert said(chat(http, [WHO, OPEN[1] | {"content": ""}])) == said(chat(http, [WHO]))


def test_white_space_is_kept(http):
    for begun in ("I am\n\n", "  I am", "I am "):
        messages = [WHO, OPEN[1] | {"content": begun}]
        assert said(chat(http, messages)) == completed(http, PROMPT + begun)


def test_control_tokens_stay_text(http):
    typed = [WHO, OPEN[1] | {"content": "I am<|im_end|>"}]
    asked = http.post("/tokenize", json={"messages": typed}).json()["tokens"]
    ended = http.post("/tokenize", json={"content": PROMPT + "I am<|im_end|>"}).json()["tokens"]
    assert len(asked) > len(ended)


def test_the_prompt_is_the_same_each_time(http):
    first, again = (http.post("/tokenize", json={"messages": OPEN}).json() for _ in range(2))
    assert first == again
    long = [WHO | {"content": "word " * 200}, OPEN[1]]
    chat(http, long)
    cached = chat(http, long)["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 150


def test_messages_go_on(own, http):
    text, tokens = completed(http, PROMPT + BEGUN)
    with anthropic.Anthropic(base_url=own.url, api_key="none", max_retries=0) as client:
        body = {"model": "mlxr-demo", "messages": OPEN}
        greedy = {"max_tokens": LIMIT, "extra_body": {"temperature": 0}}
        answer = client.messages.create(**body, **greedy)
        assert answer.content[0].text == text
        used = answer.usage
        assert used.input_tokens + used.cache_read_input_tokens == tokens
        assert client.messages.count_tokens(**body).input_tokens == tokens
        with client.messages.stream(**body, **greedy) as stream:
            assert stream.get_final_text() == text


@pytest.mark.parametrize("end", [" ", "\n"])
def test_messages_refuse_white_space_at_the_end(http, end):
    """As Anthropic does, in its words."""
    block = [{"type": "text", "text": BEGUN + end}]
    for content in (BEGUN + end, block):
        body = {
            "model": "mlxr-demo",
            "max_tokens": 4,
            "messages": [WHO, OPEN[1] | {"content": content}],
        }
        answer = http.post(MESSAGES, json=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "final assistant content cannot end with trailing whitespace" in error["message"]


def test_ollamas_chat_goes_on(own, http):
    text, tokens = completed(http, PROMPT + BEGUN)
    options = {"temperature": 0, "num_predict": LIMIT}
    answer = ollama.Client(host=own.url).chat("mlxr-demo", OPEN, options=options)
    assert (answer.message.content, answer.prompt_eval_count) == (text, tokens)


def test_grpcs_chat_goes_on(own, http):
    text, tokens = completed(http, PROMPT + BEGUN)
    messages = [{"role": 2, "content": "Who are you?"}, {"role": 3, "content": BEGUN}]
    with GrpcClient(f"unix:{own.home / 'mlxr-grpc.sock'}") as rpc:
        fields = {"sampling": {"temperature": 0}, "options": {"max_tokens": LIMIT}}
        events = list(rpc.chat("", **fields, messages=messages))
    assert text_of(events) == text
    assert events[-1].usage.prompt_tokens == tokens


def test_a_response_begins_a_new_turn(http):
    body = {"input": OPEN, "temperature": 0, "max_output_tokens": LIMIT}
    answer = http.post("/v1/responses", json=body).json()
    closed = PROMPT + BEGUN + "<|im_end|>\n<|im_start|>assistant\n"
    assert answer["usage"]["input_tokens"] == completed(http, closed)[1]


def test_a_format_holds_for_what_follows(http):
    choice = {"guided_choice": [" cat", " dog"]}
    assert said(chat(http, **choice))[0] in (" cat", " dog")


def test_a_forced_call_follows(http):
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    answer = chat(http, tools=[tool], tool_choice="required", max_tokens=60)
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def create(http, name, template):
    body = {"model": name, "from": "mlxr-demo", "template": template, "stream": False}
    assert http.post("/api/create", json=body).status_code == 200


LOOP = "{% for m in messages %}<|im_start|>{{ m.role }}\n@<|im_end|>\n{% endfor %}"
NEW_TURN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("name", "written", "begun", "seen"),
    [
        ("trims", "{{ m.content | trim }}", "  I am ", "I am "),
        ("adds", "<think>\n\n</think>\n\n{{ m.content }}", "I am", "<think>\n\n</think>\n\nI am"),
    ],
)
def test_templates_that_change_what_is_round_a_message(http, name, written, begun, seen):
    create(http, name, LOOP.replace("@", written) + NEW_TURN)
    answer = chat(http, [OPEN[1] | {"content": begun}], model=name)
    assert said(answer) == completed(http, "<|im_start|>assistant\n" + seen)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("shouts", "{{ m.content | upper }}"),
        ("quotes", "{{ m.content | tojson }}"),
        ("hides", "{% if m.role != 'assistant' %}{{ m.content }}{% endif %}"),
    ],
)
def test_templates_that_do_not_write_the_message_are_one_error(http, name, written):
    create(http, name, LOOP.replace("@", written) + NEW_TURN)
    messages = [WHO, OPEN[1] | {"content": 'I "am'}]
    error = chat(http, messages, 400, model=name)["error"]["message"]
    assert "cannot go on" in error
    assert "\n" not in error
    assert chat(http, messages, model=name, continue_final_message=False)["choices"]


def test_open_thoughts_are_gone_on_from(http):
    """A model whose template knows <think>: what follows an open one is reasoning."""
    template = LOOP.replace("@", "{{ m.content }}") + NEW_TURN + "{# <think></think> #}"
    create(http, "thinks", template)
    begun = [WHO, OPEN[1] | {"content": "<think>I should say"}]
    message = chat(http, begun, model="thinks", max_tokens=4)["choices"][0]["message"]
    assert message["reasoning_content"]
    assert not message["content"]
    over = [WHO, OPEN[1] | {"content": "<think>So.</think>I am"}]
    message = chat(http, over, model="thinks")["choices"][0]["message"]
    assert "reasoning_content" not in message
    assert message["content"]
