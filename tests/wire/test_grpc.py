"""gRPC beside REST: the same answers, deadlines, cancellation, keys and errors.

The client learns the API by reflection."""

import stat
import subprocess
import threading

import grpc
import pytest
from grpc_client import GrpcClient, arguments_of, details, text_of
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_daemon import MODELS, RunningDaemon, chat_body, clean_environment, endless, program

SERVICES = ["mlxr.v1.Inference", "mlxr.v1.Models", "mlxr.v1.Metrics"]
METHODS = [
    "Inference/Generate",
    "Inference/Chat",
    "Inference/Embed",
    "Inference/Tokenize",
    "Inference/Detokenize",
    "Models/ListModels",
    "Models/GetModel",
    "Models/LoadModel",
    "Models/UnloadModel",
    "Metrics/GetMetrics",
]
ENDLESS = {
    "text": "Once upon a time",
    "sampling": {"temperature": 0},
    "options": {"ignore_eos": True},
}
QUESTION = "What is the capital of Norway?"


def socket_of(daemon):
    return f"unix:{daemon.home / 'mlxr-grpc.sock'}"


@pytest.fixture
def rpc(daemon):
    with GrpcClient(socket_of(daemon)) as client:
        yield client


@pytest.fixture
def slow(start):
    """One thread, so that an endless answer really takes a while."""
    daemon = start("--threads", "1")
    with daemon.client() as client:
        client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
    return daemon


def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        list(call) if hasattr(call, "__next__") else call()
    return caught.value


def test_chat_is_rests_answer(rpc, http):
    rest = http.post("/v1/chat/completions", json=chat_body(QUESTION)).json()
    events = list(rpc.chat(QUESTION))
    assert [e.WhichOneof("event") for e in events[:1] + events[-2:]] == ["start", "end", "usage"]
    assert text_of(events) == rest["choices"][0]["message"]["content"]
    assert events[0].start.model == "mlxr-demo"
    assert events[0].start.id.startswith("req_")
    assert events[-2].end.finish_reason == 1
    assert events[-1].usage.prompt_tokens == rest["usage"]["prompt_tokens"]
    assert events[-1].usage.completion_tokens == rest["usage"]["completion_tokens"]


def test_chat_comes_in_pieces(slow):
    """A long answer: pieces of a short one may wait together for a client that is slow to read."""
    with GrpcClient(socket_of(slow)) as rpc:
        options = {"max_tokens": 200, "ignore_eos": True}
        events = list(rpc.chat(QUESTION, options=options))
    assert sum(e.HasField("delta") for e in events) > 1
    assert events[-1].usage.completion_tokens == 200


def test_conversations_are_rests(rpc, http):
    messages = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Oslo."},
        {"role": "user", "content": "And of Sweden?"},
    ]
    body = {"messages": messages, "temperature": 0.7, "seed": 5, "max_tokens": 20, "top_k": 30}
    rest = http.post("/v1/chat/completions", json=body).json()["choices"][0]
    fields = {
        "messages": [m | {"role": "ROLE_" + m["role"].upper()} for m in messages],
        "sampling": {"temperature": 0.7, "seed": 5, "top_k": 30},
        "options": {"max_tokens": 20},
    }
    assert text_of(rpc.call("Inference/Chat", fields)) == rest["message"]["content"]


def test_generate_is_rests_answer(rpc, http):
    body = {"prompt": "Once upon", "temperature": 0, "max_tokens": 12, "logprobs": 2}
    rest = http.post("/v1/completions", json=body).json()["choices"][0]
    fields = {
        "text": "Once upon",
        "sampling": {"temperature": 0},
        "options": {"max_tokens": 12, "logprobs": 2},
    }
    events = list(rpc.call("Inference/Generate", fields))
    assert text_of(events) == rest["text"]
    assert events[-2].end.finish_reason == 2
    assert len(events[-2].end.tokens.ids) == 12
    probabilities = [p for e in events for p in e.delta.logprobs]
    assert [p.token for p in probabilities] == list(events[-2].end.tokens.ids)
    assert [p.logprob for p in probabilities] == pytest.approx(rest["logprobs"]["token_logprobs"])
    assert all(len(p.top) == 2 for p in probabilities)
    ids = {**fields, "tokens": {"ids": rpc_tokens(rpc, "Once upon", add_special=True)}}
    del ids["text"]
    assert text_of(rpc.call("Inference/Generate", ids)) == rest["text"]


def rpc_tokens(rpc, text, **fields):
    return list(rpc.call("Inference/Tokenize", {"text": text, **fields}).tokens)


def test_choices_stops_and_constraints(rpc):
    fields = {
        "text": "Once upon a time",
        "sampling": {"temperature": 1, "seed": 3},
        "options": {"n": 3, "max_tokens": 8},
    }
    events = list(rpc.call("Inference/Generate", fields))
    ends = [e.end for e in events if e.HasField("end")]
    assert sorted(end.choice for end in ends) == [0, 1, 2]
    assert events[-1].usage.completion_tokens == sum(len(end.tokens.ids) for end in ends) == 24
    stopped = list(rpc.chat(QUESTION, options={"stop": ["Oslo"]}))
    assert "Oslo" not in text_of(stopped)
    assert stopped[-2].end.stop == "Oslo"
    matched = rpc.chat(QUESTION, options={"regex": "(yes|no)"})
    assert text_of(matched) in ("yes", "no")


def test_a_forced_call(rpc):
    schema = '{"type": "object", "properties": {"city": {"type": "string"}}}'
    tool = {"name": "weather", "description": "The weather in a city", "parameters": schema}
    events = list(
        rpc.chat("What is the weather in Oslo?", tools=[tool], tool_choice={"name": "weather"})
    )
    first = next(c for e in events for c in e.delta.tool_calls)
    assert (first.index, first.name) == (0, "weather")
    assert first.id.startswith("call_")
    assert isinstance(arguments_of(events), dict)
    assert events[-2].end.finish_reason == 3


def test_tokens_are_rests(rpc, http):
    text = "Grüße, <|im_end|> 世界"
    rest = http.post("/tokenize", json={"content": text}).json()["tokens"]
    answer = rpc.call("Inference/Tokenize", {"text": text, "with_pieces": True})
    assert list(answer.tokens) == rest
    assert b"".join(answer.pieces).decode() == text
    assert answer.context_length == 2048
    assert rpc.call("Inference/Detokenize", {"tokens": rest}).text == text
    chat = {"chat": {"messages": [{"role": "ROLE_USER", "content": "Hi"}]}}
    vllm = http.post("/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert list(rpc.call("Inference/Tokenize", chat).tokens) == vllm["tokens"]


def test_models(start):
    daemon = start()
    with GrpcClient(socket_of(daemon)) as rpc, daemon.client() as http:
        [listed] = rpc.call("Models/ListModels").models
        rest = http.get("/mlxr/v1/models").json()["models"][0]
        assert (listed.name, listed.size_bytes) == ("mlxr-demo", rest["size_bytes"])
        assert listed.is_default
        assert not listed.loaded
        got = rpc.call("Models/GetModel", {"name": "mlxr-demo"})
        rest = http.get("/mlxr/v1/models/mlxr-demo").json()
        assert got.chat_template == rest["chat_template"]
        assert got.vocab_size == rest["vocab_size"]
        assert [t.id for t in got.stop_tokens] == [t["id"] for t in rest["stop_tokens"]]
        loaded = rpc.call("Models/LoadModel", {"name": "mlxr-demo"})
        assert loaded.kv_blocks_total > 0 < loaded.loaded_at
        assert rpc.call("Models/ListModels").models[0].loaded
        path = str(MODELS / "mlxr-demo-draft")
        assert rpc.call("Models/LoadModel", {"path": path}).name == "mlxr-demo-draft"
        assert rpc.call("Models/UnloadModel", {"name": "mlxr-demo"}).unloaded
        assert [m["name"] for m in daemon.ps()] == ["mlxr-demo-draft"]
        metrics = rpc.call("Metrics/GetMetrics").text
        assert 'mlxr_kv_blocks{model="mlxr-demo-draft"}' in metrics
        assert 'route="GRPC /mlxr.v1.Models/LoadModel",status="200"} 2\n' in metrics


def test_reflection_and_health(daemon, rpc):
    listed = rpc.reflection.get_services()
    assert set(SERVICES) <= set(listed)
    assert "grpc.health.v1.Health" in listed
    found = [
        f"{name.rsplit('.', 1)[1]}/{method.name}"
        for name in SERVICES
        for method in rpc.pool.FindServiceByName(name).methods
    ]
    assert found == METHODS
    health = health_pb2_grpc.HealthStub(rpc.channel)
    for service in ["", *SERVICES]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_socket_is_its_owners(daemon):
    mode = (daemon.home / "mlxr-grpc.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"sampling": {"temperature": 9}}, "sampling.temperature"),
        ({"options": {"max_tokens": 0}}, "options.max_tokens"),
        ({"options": {"logprobs": 99}}, "options.logprobs"),
        ({"options": {"regex": "("}}, "options.regex"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"tools": [{"name": "f", "parameters": "[}"}]}, "tools[0].parameters"),
        ({"template_variables": "7"}, "template_variables"),
        ({"tool_choice": {"name": "f"}}, "tool_choice"),
    ],
)
def test_what_is_wrong_is_named(rpc, fields, field):
    error = failure(rpc.chat("Hi", **fields))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    [violation] = details(error)["BadRequest"]["fieldViolations"]
    assert violation["field"] == field
    assert violation["description"] == error.details()


def test_a_strict_tool_holds_its_calls(rpc):
    schema = (
        '{"type":"object","properties":{"city":{"enum":["Oslo"]}},"required":["city"],'
        '"additionalProperties":false}'
    )
    tool = {"name": "get_weather", "parameters": schema, "strict": True}
    events = list(rpc.chat("weather in Accra", tools=[tool], tool_choice={"name": "get_weather"}))
    assert arguments_of(events) == {"city": "Oslo"}


def test_a_malformed_message_and_an_unknown_method(rpc):
    error = failure(rpc.call("Inference/Chat", data=b"\xff\xff"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    unknown = rpc.channel.unary_unary("/mlxr.v1.Inference/Sing")
    assert failure(lambda: unknown(b"")).code() == grpc.StatusCode.UNIMPLEMENTED


def test_unknown_model(rpc):
    for error in (
        failure(rpc.chat("Hi", model="mlxr-dem")),
        failure(lambda: rpc.call("Models/GetModel", {"name": "mlxr-dem"})),
    ):
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert "mlxr-demo" in error.details()
        assert details(error)["ErrorInfo"] == {"reason": "MODEL_NOT_FOUND", "domain": "mlxr"}


def test_too_long_a_prompt(rpc):
    error = failure(rpc.call("Inference/Generate", {"tokens": {"ids": [5] * 3000}}))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)["ErrorInfo"]["reason"] == "CONTEXT_LENGTH_EXCEEDED"


@pytest.mark.parametrize(
    "fields", [ENDLESS, {"tokens": {"ids": [300] * 2000}, "options": {"n": 64, "max_tokens": 1}}]
)
def test_cancelling_frees_everything(slow, fields):
    """While the answer is written, and while a long prompt is read."""
    with GrpcClient(socket_of(slow)) as rpc:
        call = rpc.call("Inference/Generate", fields)
        slow.wait_until_running()
        call.cancel()
        slow.wait_until_quiet()
        assert slow.ps()[0]["kv_blocks_used"] == 0
    slow.wait_for_log("finish=cancelled")
    assert 'route="GRPC /mlxr.v1.Inference/Generate" status=499' in slow.text()


def test_a_lost_client_frees_everything(slow):
    with GrpcClient(socket_of(slow)) as rpc:
        call = rpc.call("Inference/Generate", ENDLESS)
        slow.wait_until_running()
    slow.wait_until_quiet()
    assert slow.ps()[0]["kv_blocks_used"] == 0
    assert call.done()


def test_a_deadline_is_the_requests_timeout(slow):
    with GrpcClient(socket_of(slow)) as rpc:
        fields = ENDLESS | {"options": {"ignore_eos": True, "n": 8}}
        error = failure(rpc.call("Inference/Generate", fields, timeout=0.5))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        slow.wait_until_quiet()
        assert slow.ps()[0]["kv_blocks_used"] == 0
    slow.wait_for_log("status=504")


def test_a_full_queue_says_when_to_come_again(start):
    daemon = start("--threads", "1", "--max-sequences", "1", "--max-queue", "1")
    with GrpcClient(socket_of(daemon)) as rpc:
        running = rpc.call("Inference/Generate", ENDLESS)
        daemon.wait_until_running()
        waiting = rpc.call("Inference/Generate", ENDLESS)
        assert next(waiting).HasField("start")
        error = failure(rpc.chat("Hi"))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        found = details(error)
        assert found["ErrorInfo"]["reason"] == "QUEUE_FULL"
        assert int(found["RetryInfo"]["retryDelay"].removesuffix("s")) >= 1
        assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
        running.cancel()
        waiting.cancel()


def test_messages_have_a_limit(start):
    daemon = start("--max-body-bytes", "4096")
    with GrpcClient(socket_of(daemon)) as rpc:
        error = failure(rpc.chat("a" * 5000))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text_of(rpc.chat("Who are you?"))


def test_a_client_that_does_not_read_holds_nobody_up(slow):
    with GrpcClient(socket_of(slow)) as rpc, GrpcClient(socket_of(slow)) as other:
        fields = ENDLESS | {"options": {"ignore_eos": True, "n": 8, "logprobs": 20}}
        stuck = rpc.call("Inference/Generate", fields)
        slow.wait_until_running()
        assert text_of(other.chat("Who are you?", options={"max_tokens": 3}))
        stuck.cancel()
        slow.wait_until_quiet()


def test_running_answers_end_when_the_daemon_does(start):
    daemon = start("--grpc-port", "-1")
    with GrpcClient(f"127.0.0.1:{daemon.address['grpc_port']}") as rpc:
        events = rpc.call("Inference/Generate", ENDLESS | {"options": {"max_tokens": 200}})
        first = next(events)
        result = {}
        thread = threading.Thread(target=lambda: result.update(status=daemon.terminate()))
        thread.start()
        rest = [first, *events]
        thread.join()
    assert result["status"] == 0
    assert rest[-1].usage.completion_tokens > 0
    assert not (daemon.home / "mlxr-grpc.sock").exists()


def test_a_taken_port_is_said(start):
    first = start("--grpc-port", "-1")
    port = first.address["grpc_port"]
    second = RunningDaemon("--grpc-port", port, wait=False)
    try:
        assert second.process.wait(20) == 1
        assert f"127.0.0.1:{port} is in use" in second.text()
        assert "--grpc-port" in second.text()
    finally:
        second.stop()


@pytest.fixture(scope="module")
def guarded():
    with RunningDaemon("--require-api-key", "true", "--grpc-port", "-1") as daemon:
        daemon.target = f"127.0.0.1:{daemon.address['grpc_port']}"
        yield daemon


def new_key(home, *arguments):
    command = [program().parent / "mlx", "key", "create", *arguments]
    done = subprocess.run(
        command, env=clean_environment(home), capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("key", [None, "none", "mlxr-" + "0" * 64])
def test_every_method_asks_for_a_key(guarded, key):
    with GrpcClient(guarded.target, key) as rpc:
        for method in METHODS:
            call = (lambda name=method: list(rpc.call(name))) if "Inf" in method else None
            error = failure(call or (lambda name=method: rpc.call(name)))
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED, method
        answer = health_pb2_grpc.HealthStub(rpc.channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_keys_and_their_scopes(guarded):
    with GrpcClient(guarded.target, new_key(guarded.home, "reader")) as rpc:
        assert text_of(rpc.chat("Who are you?"))
        error = failure(lambda: rpc.call("Models/UnloadModel", {"name": "mlxr-demo"}))
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "admin" in error.details()
        path = failure(lambda: rpc.call("Models/LoadModel", {"path": "/etc/passwd"}))
        assert path.code() == grpc.StatusCode.PERMISSION_DENIED
    with GrpcClient(guarded.target, new_key(guarded.home, "boss", "--admin")) as rpc:
        assert rpc.call("Models/UnloadModel", {"name": "mlxr-demo"}).unloaded
    with GrpcClient(socket_of(guarded)) as rpc:
        assert rpc.call("Models/ListModels").models


def test_limits_hold_for_grpc(start):
    daemon = start("--requests-per-minute", "1", "--grpc-port", "-1")
    with GrpcClient(f"127.0.0.1:{daemon.address['grpc_port']}") as rpc:
        assert text_of(rpc.chat("Who are you?"))
        error = failure(rpc.chat("Who are you?"))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"]["reason"] == "RATE_LIMIT_EXCEEDED"


def test_requests_beside_rest_share_the_queue(slow):
    """Both protocols wait in one line: the engine steps them together."""
    with GrpcClient(socket_of(slow)) as rpc, slow.client() as http:
        call = rpc.call("Inference/Generate", ENDLESS)
        slow.wait_until_running()
        body = endless(max_tokens=10)
        assert http.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 10
        assert slow.ps()[0]["running"] == 1
        call.cancel()
