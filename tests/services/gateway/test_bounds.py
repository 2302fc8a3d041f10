"""Oversized requests are refused before any work, and long work does not block the event loop."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.bounds import WorkBounds, bounds_of
from services.gateway.encoding import SHORT_CHARS
from services.gateway.errors import ApiError
from services.gateway.intake import INLINE_BODY, INLINE_CHARS, Intake
from services.gateway.openai_schema import ChatMessage, ChatRequest, CompletionRequest, TextPart
from services.gateway.tokenizer import TargetTokenizer
from shared.compute.compute import ThreadCompute
from tests.services.gateway.stack import MODEL, running_stack, settings_for_tests
from tests.services.gateway.tokenizers_for_tests import byte_bpe

BOUNDS = WorkBounds(max_messages=100, max_chars=1000)
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def message(*texts: str) -> ChatMessage:
    return ChatMessage(role="user", content=[TextPart(type="text", text=text) for text in texts])


@contextmanager
def refused(code: str, status: int = 400) -> Iterator[None]:
    with pytest.raises(ApiError) as caught:
        yield
    assert (caught.value.status, caught.value.code) == (status, code)


def test_messages_and_their_parts_count() -> None:
    BOUNDS.check_chat([message("")] * 100)
    BOUNDS.check_chat([message(*[""] * 100)])
    for messages in ([message("")] * 101, [message(*[""] * 101)], [message(*[""] * 60), message(*[""] * 60)]):
        with refused("too_many_messages"):
            BOUNDS.check_chat(messages)
    with refused("too_many_messages"):
        BOUNDS.check_chat([message()] * 101)


def test_characters_of_all_messages_count() -> None:
    BOUNDS.check_chat([message("x" * 500), message("y" * 250, "z" * 250)])
    with refused("context_length_exceeded"):
        BOUNDS.check_chat([message("x" * 500), message("y" * 250, "z" * 251)])
    BOUNDS.check_prompt("x" * 1000)
    with refused("context_length_exceeded"):
        BOUNDS.check_prompt("x" * 1001)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{}] * 5000},
        {"messages": [{"role": "user", "content": ""}] * 5000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 5000}]},
        {"messages": [{"role": "user", "content": "x", **{f"k{n}": 1 for n in range(5000)}}]},
        {"stop": [1] * 5000},
        {"prompt": [[]] * 5000},
        {"prompt": [1.5] * 5000},
        {"prompt": ["x"] * 5000},
        {"metadata": {"a": [[[0] * 5000]]}},
        {f"k{n}": 1 for n in range(5000)},
    ],
)
def test_a_body_of_many_values_is_refused_before_the_schema_sees_it(fields: dict[str, Any]) -> None:
    with refused("too_many_values"):
        BOUNDS.check_body(json.dumps(fields).encode())


def test_what_a_request_may_be_made_of_passes() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x" * 100}], "name": "x"}] * 100
    BOUNDS.check_body(json.dumps(CHAT | {"messages": messages}).encode())
    BOUNDS.check_body(json.dumps({"prompt": list(range(100_000))}).encode())
    BOUNDS.check_body(json.dumps({"prompt": [list(range(1000))] * 100}).encode())
    BOUNDS.check_body(b'{"prompt": "' + b"[{,}]" * 10_000 + b'"}')
    BOUNDS.check_body(b"{" * 10_000)  # the schema says what is wrong
    BOUNDS.check_body(b"[" * 10_000)


def test_defaults_come_from_the_context() -> None:
    assert bounds_of(settings_for_tests(max_context=1000)) == WorkBounds(2048, 32_000)
    assert bounds_of(settings_for_tests(max_messages=7, max_prompt_chars=9)) == WorkBounds(7, 9)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ChatRequest, {"messages": [{}] * 600}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * 600}]}),
        (CompletionRequest, {"prompt": "x", "stop": [1] * 600}),
    ],
)
def test_of_a_list_that_is_wrong_all_over_only_the_first_is_looked_at(
    kind: type[ChatRequest] | type[CompletionRequest], fields: dict[str, Any]
) -> None:
    """An error is made of each, with all of the body in it, otherwise: seconds for 8 KB."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(json.dumps({"model": "m"} | fields))
    assert caught.value.error_count() <= 2


class Recorder:
    """A compute that notes where jobs run, and may be held."""

    def __init__(self) -> None:
        self.inner = ThreadCompute("test")
        self.threads: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def run(self, fn: Callable[[], Any], cost_s: float = 0.0) -> Any:
        await self.hold.wait()

        def noted() -> Any:
            self.threads.append(threading.get_ident())
            return fn()

        return await self.inner.run(noted)

    def close(self) -> None:
        self.inner.close()


@asynccontextmanager
async def intake(limit: int = 64, bounds: WorkBounds = BOUNDS) -> AsyncIterator[tuple[Intake, Recorder]]:
    recorder = Recorder()
    try:
        yield Intake(recorder, bounds, limit), recorder
    finally:
        recorder.close()


async def test_short_work_runs_at_once_and_long_work_elsewhere() -> None:
    async with intake() as (taken, recorder):
        assert await taken.run(INLINE_CHARS, threading.get_ident) == threading.get_ident()
        assert await taken.run(INLINE_CHARS + 1, threading.get_ident) != threading.get_ident()
        short = json.dumps(CHAT).encode()
        assert (await taken.parse(ChatRequest, short)).model == MODEL
        assert len(recorder.threads) == 1
        long = short + b" " * INLINE_BODY
        assert (await taken.parse(ChatRequest, long)).model == MODEL
        assert len(recorder.threads) == 2
        with refused("invalid_json"):
            await taken.parse(ChatRequest, b"{" + long)
        assert threading.get_ident() not in recorder.threads


async def test_only_so_many_wait() -> None:
    async with intake(limit=2) as (taken, recorder):
        recorder.hold.clear()
        waiting = [asyncio.create_task(taken.run(INLINE_CHARS + 1, lambda: 1)) for _ in range(2)]
        await asyncio.sleep(0)
        with refused("too_busy", 503):
            await asyncio.wait_for(taken.run(INLINE_CHARS + 1, lambda: 1), 5)
        finishing = asyncio.create_task(taken.finish(INLINE_CHARS + 1, lambda: 2))  # not refused
        waiting[0].cancel()  # its client has gone
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(taken.run(INLINE_CHARS + 1, lambda: 3)))
        await asyncio.sleep(0)
        recorder.hold.set()
        assert await asyncio.gather(*waiting[1:], finishing) == [1, 3, 2]


async def test_the_settings_limit_how_many_wait() -> None:
    recorder = Recorder()
    recorder.hold.clear()
    taken = Intake.of(settings_for_tests(max_long_requests=1), recorder)
    waiting = asyncio.create_task(taken.run(INLINE_CHARS + 1, lambda: 1))
    await asyncio.sleep(0)
    with refused("too_busy", 503):
        await asyncio.wait_for(taken.run(INLINE_CHARS + 1, lambda: 2), 5)
    recorder.hold.set()
    assert await waiting == 1
    recorder.close()


async def test_a_chat_of_many_empty_messages_is_refused_before_any_of_it_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rendered(*_: Any) -> list[int]:
        raise AssertionError("it was rendered")

    async with running_stack() as stack:
        monkeypatch.setattr(TargetTokenizer, "encode_chat", rendered)
        monkeypatch.setattr(TargetTokenizer, "encode", rendered)
        empty = {"role": "user", "content": ""}
        for count, code in ((2049, "too_many_messages"), (20_000, "too_many_values")):
            status, body = await stack.chat(messages=[empty] * count)
            assert (status, body["error"]["code"]) == (400, code)
        status, body = await stack.chat(messages=[{"role": "user", "content": "x" * 300_000}])
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
        status, body = await stack.complete(prompt=["x", "x" * 300_000])
        assert (status, body["error"]["code"]) == (400, "context_length_exceeded")


async def test_parsing_rendering_and_tokenizing_of_long_requests_happen_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, set[int]] = {}

    def spied(where: Any, name: str) -> None:
        inner = getattr(where, name)

        def spy(*args: Any) -> Any:
            seen.setdefault(name, set()).add(threading.get_ident())
            return inner(*args)

        monkeypatch.setattr(where, name, spy)

    async with running_stack() as stack:
        monkeypatch.setattr(stack.gateway.api.admission.intake, "_compute", ThreadCompute("test"))
        spied(TargetTokenizer, "encode")
        spied(TargetTokenizer, "encode_chat")
        spied(WorkBounds, "check_body")
        many = [{"role": "user", "content": "x"}] * 200
        assert (await stack.chat(messages=many))[0] == 400  # more tokens than the context has
        assert (await stack.complete(prompt=["dog " * 500] * 8))[0] == 400
        assert set(seen) == {"encode", "encode_chat", "check_body"}
        assert all(threading.get_ident() not in threads for threads in seen.values())


async def test_an_answer_with_many_logprobs_is_written_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    async with running_stack() as stack:
        monkeypatch.setattr(stack.gateway.api.admission.intake, "_compute", ThreadCompute("test"))
        monkeypatch.setattr("services.gateway.respond.LOGPROB_CHARS", 10_000)
        token_bytes = TargetTokenizer.token_bytes

        def spy(self: TargetTokenizer, token: int) -> bytes:
            threads.append(threading.get_ident())
            return token_bytes(self, token)

        monkeypatch.setattr(TargetTokenizer, "token_bytes", spy)
        status, body = await stack.chat(logprobs=True, top_logprobs=2)
        assert status == 200
        assert len(body["choices"][0]["logprobs"]["content"]) == body["usage"]["completion_tokens"]
        assert threads
        assert threading.get_ident() not in threads


@pytest.mark.parametrize("chat", [False, True])
def test_a_long_text_is_tokenized_without_pythons_lock(chat: bool) -> None:
    """The event loop runs on meanwhile. With the lock held it would get a turn before and one after."""
    text = "the quick brown fox jumps over the lazy dog " * 4000
    tokenizer = byte_bpe()
    done = threading.Event()
    turns = 0

    def encode() -> None:
        if chat:
            tokenizer.encode_chat([{"role": "user", "content": text}])
        else:
            tokenizer.encode(text)
        done.set()

    started = threading.Thread(target=encode)
    started.start()
    while not done.wait(0.001):
        turns += 1
    started.join()
    assert turns > 5


def test_long_and_short_texts_are_tokenized_alike() -> None:
    tokenizer = byte_bpe()
    text = "hello world, Straße 東京都 🎉 " * 400
    assert len(text) > SHORT_CHARS
    own = tokenizer._tokenizer
    assert tokenizer.encode(text) == own.encode(text).ids
    rendered = f"<|start|>user\n{text}<|end|><|start|>assistant\n"
    ids = own.encode(rendered, add_special_tokens=False).ids
    assert tokenizer.encode_chat([{"role": "user", "content": text}]) == ids


async def test_a_refused_request_gives_its_place_back() -> None:
    async with running_stack(key_concurrency=1) as stack:
        for fields in ({"prompt": ""}, {"zork": 1}, {"prompt": ["a", "b"]}):
            assert (await stack.complete(**fields))[0] == 400
        assert (await stack.complete())[0] == 200


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_while_its_body_comes_a_request_has_its_place(path: str) -> None:
    """So nobody holds the memory of more bodies than places."""
    async with running_stack(key_concurrency=1) as stack:
        _, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b"{")
        async with asyncio.timeout(5):
            while (await stack.complete())[0] != 429:
                await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while (await stack.complete())[0] != 200:
                await asyncio.sleep(0.01)
