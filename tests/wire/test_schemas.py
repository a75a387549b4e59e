"""Requests made from the description of the API: no crash, and answers as described.

How many are made is fixed, and so is the seed: the test takes the same time and finds the same on
every machine. Answers are short, because the model's window is.
"""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from running_daemon import RunningDaemon
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
EXAMPLES = 6
# Ends the daemon; says that it is missing (501); takes any bytes.
LEFT_OUT = {
    ("POST", "/mlxr/v1/shutdown"),
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/blobs/{digest}"),
}


@pytest.fixture(scope="module")
def small():
    with RunningDaemon("--context-length", "64") as running:
        yield running
        assert running.process.poll() is None, running.text()


ANSWERS = {
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
    "POST /v1/messages",
    "POST /api/chat",
    "POST /api/generate",
    "POST /tokenize",
    "POST /v1/embeddings",
    "POST /v1/rerank",
    "POST /rerank",
    "POST /api/embed",
    "POST /api/embeddings",
}
# Of these a request may have one.
CONSTRAINTS = [
    "response_format",
    "json_schema",
    "grammar",
    "regex",
    "ebnf",
    "structured_outputs",
    "guided_json",
]
CONSTRAINTS += ["guided_regex", "guided_choice", "guided_grammar", "guided_json_object"]


def make_useful(case):
    """Names a model that is there, and leaves out the deadline: 504 is its right answer."""
    if isinstance(case.body, dict):
        case.body.pop("timeout", None)
        case.body.pop("lora", None)  # the model has no adapters: 404
        for name in [n for n in CONSTRAINTS if n in case.body][1:]:
            del case.body[name]
        for name in ("model", "name"):
            if isinstance(case.body.get(name), str):
                case.body[name] = "mlxr-demo"
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = "mlxr-demo"


def test_made_up_requests(small):
    schema = schemathesis.openapi.from_url(small.url + "/openapi.json")
    seen = {}

    def exercise(operation):
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case):
            make_useful(case)
            answer = case.call(timeout=60)
            case.validate_response(answer, checks=CHECKS)
            seen.setdefault(operation.label, set()).add(answer.status_code)

        ask()

    for found in schema.get_all_operations():
        operation = found.ok()
        if (operation.method.upper(), operation.path) not in LEFT_OUT:
            exercise(operation)
    assert len(seen) > 30
    # The description is good enough to be understood: most operations succeed at some time.
    refused = {label: statuses for label, statuses in seen.items() if min(statuses) >= 300}
    assert len(refused) < len(seen) / 3, refused
    assert not [label for label in ANSWERS if label in refused], refused
