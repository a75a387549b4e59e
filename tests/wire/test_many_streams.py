"""Two hundred streams at once: every one ends, with the text that it gets alone."""

import asyncio
import json

import httpx
from running_daemon import events_of

STREAMS, KINDS = 200, 25


def body(i):
    """Half of them greedy, half drawn with a seed of their own."""
    return {
        "messages": [{"role": "user", "content": f"Tell me a story about {i} foxes."}],
        "temperature": 0 if i % 2 else 0.8,
        "seed": i,
        "max_tokens": 12 + i % 7,
        "stream": True,
    }


def text_and_reason(events):
    text, reason = "", None
    for event in events:
        choice = event["choices"][0]
        text += choice["delta"].get("content") or ""
        reason = choice["finish_reason"] or reason
    return text, reason


def test_each_of_200_streams_is_what_it_is_alone(start):
    daemon = start("--max-sequences", STREAMS)
    with daemon.client() as client:
        alone = []
        for i in range(KINDS):
            with client.stream("POST", "/v1/chat/completions", json=body(i)) as answer:
                alone.append(text_and_reason(e for e in events_of(answer) if e != "[DONE]"))
    assert all(text and reason for text, reason in alone)
    assert len({text for text, _ in alone}) > 1

    async def ask(client, i):
        events, last = [], None
        async with client.stream("POST", "/v1/chat/completions", json=body(i % KINDS)) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                last = line or last
                if line.startswith("data: {"):
                    events.append(json.loads(line[6:]))
        assert last == "data: [DONE]"
        return text_and_reason(events)

    async def ask_all():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=daemon.url, timeout=300, limits=limits) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(STREAMS)))

    together = asyncio.run(ask_all())
    assert [i for i in range(STREAMS) if together[i] != alone[i % KINDS]] == []
