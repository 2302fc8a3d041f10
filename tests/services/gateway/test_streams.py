"""Streams: one chunk per verdict, whole characters, and the right text despite lost or corrupt replies."""

from dataclasses import replace

import pytest

from shared.broker.contract import Entry
from shared.protocol.messages import Tune, Verdict
from tests.services.gateway.reading import TEXT, events, stream, text_of
from tests.services.gateway.stack import KEYS, MODEL, running_stack
from tests.services.gateway.tokenizers_for_tests import byte_bpe


async def test_a_stream_has_a_chunk_per_verdict() -> None:
    async with running_stack() as stack:
        chunks = await stream(stack, outrider={"spans": True, "device": "pi-1"})
        ids = byte_bpe().encode(TEXT)
        assert chunks[-1] == "[DONE]"
        spans = [chunk["outrider"] for chunk in chunks[:-1]]
        assert [token for span in spans for token in span["tokens"]] == ids
        assert [len(span["tokens"]) for span in spans] == [
            len(ids[at : at + stack.core.width]) for at in range(0, len(ids), stack.core.width)
        ]
        assert all(span["accepted"] == len(span["tokens"]) - 1 for span in spans)
        assert text_of(chunks) == TEXT
        assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
        assert stack.core.submits[0].device == "pi-1"


@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": False}, {"continuous_usage_stats": True}, {"include_usage": None}]
)
async def test_usage_does_not_come_unasked(options: dict[str, bool] | None) -> None:
    async with running_stack() as stack:
        chunks = await stream(stack, stream_options=options)
        assert chunks[-1] == "[DONE]"
        assert all("usage" not in chunk for chunk in chunks[:-1])
        assert all(chunk["choices"] for chunk in chunks[:-1])


async def test_usage_comes_last_when_asked_for() -> None:
    async with running_stack() as stack:
        chunks = await stream(stack, stream_options={"include_usage": True})
        assert chunks[-2]["choices"] == []
        assert chunks[-2]["usage"]["speculative"]["rounds"] == len(chunks) - 2
        assert all(chunk["usage"] is None for chunk in chunks[:-2])
        always = {"include_usage": True, "continuous_usage_stats": True}
        chunks = await stream(stack, stream_options=always)
        counts = [chunk["usage"]["completion_tokens"] for chunk in chunks[:-1]]
        assert counts == sorted(counts)
        assert counts[0] == stack.core.width


async def test_a_chat_stream_says_its_role_once() -> None:
    async with running_stack() as stack:
        messages = [{"role": "user", "content": "hi"}]
        body = {"model": MODEL, "messages": messages, "stream": True}
        async with stack.client.post("/v1/chat/completions", json=body) as response:
            chunks = await events(response)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
        assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
        assert "".join(delta.get("content", "") for delta in deltas) == TEXT
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"


async def test_half_a_character_never_leaves() -> None:
    async with running_stack() as stack:
        text = "a🎉é東b"
        by_bytes = {data: token for token, data in byte_bpe().vocabulary.bytes_of.items() if len(data) == 1}
        stack.core.text = lambda log: [by_bytes[bytes([byte])] for byte in text.encode()]
        stack.core.width = 1
        chunks = await stream(stack)
        assert [chunk["choices"][0]["text"] for chunk in chunks[:-1]] == list(text)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_cut_inside_a_character_ends_before_it(streamed: bool) -> None:
    async with running_stack() as stack:
        by_bytes = {data: token for token, data in byte_bpe().vocabulary.bytes_of.items() if len(data) == 1}
        stack.core.text = lambda log: [by_bytes[bytes([byte])] for byte in "ab🎉".encode()]
        if streamed:
            chunks = await stream(stack, max_tokens=5)
            text, finish = text_of(chunks), chunks[-2]["choices"][0]["finish_reason"]
        else:
            choice = (await stack.complete(max_tokens=5))[1]["choices"][0]
            text, finish = choice["text"], choice["finish_reason"]
        assert (text, finish) == ("ab", "length")


@pytest.mark.parametrize("kind", ["twice", "overlap", "lost", "late", "garbage"])
async def test_whatever_becomes_of_replies_the_text_is_right(kind: str) -> None:
    async with running_stack() as stack:
        kept: list[Verdict] = []

        def overlap(verdict: Verdict) -> list[Verdict]:
            kept.append(verdict)
            tokens = tuple(token for earlier in kept for token in earlier.tokens)
            return [replace(verdict, base_len=kept[0].base_len, tokens=tokens)]

        def late(verdict: Verdict) -> list[Verdict]:
            kept.append(verdict)
            return list(reversed(kept)) if verdict.finish else []

        mangle = {
            "twice": lambda verdict: [verdict, verdict],
            "overlap": overlap,
            "lost": lambda verdict: [verdict] if verdict.finish or verdict.round % 2 else [],
            "late": late,
            "garbage": lambda verdict: [verdict],
        }
        stack.core.mangle = mangle[kind]
        if kind == "garbage":
            reply = KEYS.reply(stack.gateway.sessions.address)
            await stack.link.broker.streams.send(reply, Tune(1))
            await stack.gateway.sessions._handle(Entry(reply, "1-1", b"\x07junk"))
        chunks = await stream(stack, outrider={"spans": True})
        assert text_of(chunks) == TEXT
        assert [t for chunk in chunks[:-1] for t in chunk["outrider"]["tokens"]] == byte_bpe().encode(TEXT)
        assert stack.gateway.sessions.counts["refused_messages"] == 2 * (kind == "garbage")


async def test_a_lost_last_verdict_is_found_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.sessions.QUIET_S", 0.1)
    monkeypatch.setattr("services.gateway.sessions.TICK_S", 0.05)
    async with running_stack() as stack:
        stack.core.mangle = lambda verdict: [] if verdict.finish else [verdict]
        assert (await stack.complete())[1]["choices"][0]["text"] == TEXT
        assert stack.gateway.sessions.counts["missed_replies"] == 1
