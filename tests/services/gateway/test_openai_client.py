"""The official `openai` client against every endpoint and error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.services.gateway.stack import MODEL, Stack, running_stack, until
from tests.services.gateway.tokenizers_for_tests import STOP_ID, byte_bpe

TEXT = "hello world, hello there"
MESSAGES: Any = [{"role": "user", "content": "say it"}]


@asynccontextmanager
async def client_of(stack: Stack, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)
    try:
        yield client
    finally:
        await client.close()


async def collect(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_models() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).owned_by == "outrider"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("other")
        assert caught.value.code == "model_not_found"


async def test_completions() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        whole = await client.completions.create(
            model=MODEL, prompt="x", max_tokens=50, logprobs=2, seed=5, stop=None, extra_body={"top_k": 40}
        )
        assert whole.choices[0].text == TEXT
        assert whole.choices[0].logprobs is not None
        assert whole.usage is not None
        assert whole.usage.speculative["drafted_tokens"] > 0  # type: ignore[attr-defined]
        chunks = [
            chunk
            async for chunk in await client.completions.create(
                model=MODEL,
                prompt="x",
                max_tokens=50,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"outrider": {"spans": True}},
            )
        ]
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == TEXT
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == len(byte_bpe().encode(TEXT))
        assert chunks[0].outrider["tokens"]  # type: ignore[attr-defined]


async def test_chats() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        stack.core.text = lambda log: [*byte_bpe().encode(TEXT), STOP_ID]
        whole = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "developer", "content": [{"type": "text", "text": "be brief"}]}, *MESSAGES],
            n=1,
            tools=[],
            response_format={"type": "text"},
            presence_penalty=0,
            logprobs=True,
            top_logprobs=2,
            user="me",
            store=False,
            metadata={"a": "b"},
            service_tier="auto",
            max_completion_tokens=50,
        )
        assert whole.choices[0].message.content == TEXT
        assert whole.choices[0].finish_reason == "stop"
        assert whole.choices[0].logprobs is not None
        assert whole.choices[0].logprobs.content is not None
        assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
        async with client.chat.completions.stream(
            model=MODEL, messages=MESSAGES, stream_options={"include_usage": True}
        ) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.content == TEXT
        assert final.usage is not None


async def test_an_answer_is_sent_back_as_the_next_turn() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        for text in (byte_bpe().encode(TEXT), [STOP_ID]):  # something, and nothing
            stack.core.text = lambda log, text=text: text  # type: ignore[misc]
            answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
            turns: Any = [*MESSAGES, answer.choices[0].message.model_dump(), *MESSAGES]
            await client.chat.completions.create(model=MODEL, messages=turns)
            empty: Any = [*MESSAGES, {"role": "assistant", "content": None}, *MESSAGES]
            await client.chat.completions.create(model=MODEL, messages=empty)


async def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("secret\n")
    async with running_stack(api_keys_file=str(path), key_concurrency=1, max_body_bytes=5000) as stack:
        async with client_of(stack, "wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.completions.create(model=MODEL, prompt="x")
        async with client_of(stack, "secret") as client:
            with pytest.raises(openai.BadRequestError) as bad:
                await client.completions.create(model=MODEL, prompt="x", n=2)
            assert bad.value.param == "n"
            with pytest.raises(openai.BadRequestError) as bad:
                await client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body={"zork": 1})
            assert bad.value.param == "zork"
            with pytest.raises(openai.NotFoundError):
                await client.completions.create(model="other", prompt="x")
            with pytest.raises(openai.APIStatusError) as large:
                await client.completions.create(model=MODEL, prompt="x" * 6000)
            assert large.value.status_code == 413
            stack.core.hold.clear()
            first = asyncio.create_task(client.completions.create(model=MODEL, prompt="x"))
            await until(lambda: stack.core.submits)
            with pytest.raises(openai.RateLimitError) as limited:
                await client.completions.create(model=MODEL, prompt="x")
            assert limited.value.response.headers["Retry-After"] == "1"
            stack.core.hold.set()
            assert (await first).choices[0].text == TEXT


async def test_an_error_in_mid_stream_is_raised() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        stack.core.pause_s = 0.1
        stream = await client.completions.create(model=MODEL, prompt="x", stream=True, max_tokens=50)
        await anext(stream)
        stack.link.lose_data()
        with pytest.raises(openai.APIError, match="broker"):
            await collect(stream)


async def test_the_broker_away_is_503() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        stack.link.away = True
        with pytest.raises(openai.InternalServerError) as caught:
            await client.completions.create(model=MODEL, prompt="x")
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["Retry-After"]) >= 1


async def test_leaving_a_stream_cancels() -> None:
    async with running_stack() as stack, client_of(stack) as client:
        stack.core.pause_s = 0.05
        async with await client.completions.create(model=MODEL, prompt="x", stream=True) as stream:
            async for _ in stream:
                break
        await until(lambda: stack.core.cancels)
