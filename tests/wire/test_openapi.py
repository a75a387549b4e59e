"""The description of the API and the API say the same."""

import re

import pytest
from running_daemon import ROOT, RunningDaemon

ROUTE = re.compile(r'\{\s*"(GET|HEAD|POST|PUT|DELETE)",\s*"(/[^"]*)"')


@pytest.fixture(scope="module")
def guarded():
    with RunningDaemon("--require-api-key", "true") as daemon, daemon.client() as client:
        yield client


@pytest.fixture(scope="module")
def operations(guarded):
    document = guarded.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_it_has_every_route_of_the_source_and_no_other(operations):
    declared = set()
    for file in (ROOT / "daemon/server").rglob("*.cpp"):
        declared |= {(m, p.replace("...", "")) for m, p in ROUTE.findall(file.read_text())}
    assert set(operations) == declared
    assert len(declared) > 25


def test_every_operation_is_there_and_asks_for_the_key_that_it_names(guarded, operations):
    for (method, path), operation in operations.items():
        address = re.sub(r"\{[^}]*\}", "x", path)
        answer = guarded.request(method, address, content=b"no json")
        if operation["security"]:
            assert answer.status_code == 401, address
            assert operation["x-scope"] in ("inference", "admin")
        else:
            assert answer.status_code == 200, address


def test_ids_differ_and_summaries_say_something(operations):
    assert len({o["operationId"] for o in operations.values()}) == len(operations)
    assert all(o["summary"] for o in operations.values())
