"""Responses over HTTP: text, choices, stops, logprobs."""

import pytest

from tests.services.gateway.reading import TEXT, stream, text_of
from tests.services.gateway.stack import running_stack, until
from tests.services.gateway.tokenizers_for_tests import STOP_ID, byte_bpe


async def test_a_completion() -> None:
    async with running_stack() as stack:
        status, body = await stack.complete(seed=-1)
        assert status == 200
        choice = body["choices"][0]
        assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == (TEXT, "length", None)
        tokens = len(byte_bpe().encode(TEXT))
        assert body["usage"]["completion_tokens"] == tokens
        assert body["usage"]["prompt_tokens"] == len(byte_bpe().encode("say it"))
        rounds = -(-tokens // stack.core.width)
        speculative = body["usage"]["speculative"]
        assert speculative["rounds"] == rounds
        assert speculative["drafted_tokens"] == 4 * rounds
        assert speculative["tau"] == pytest.approx(tokens / rounds)
        assert body["outrider"] == {"seed": 2**64 - 1}
        assert body["object"] == "text_completion"
        log = await stack.link.broker.sessions.load(stack.core.submits[0].session)
        assert log.spec.sampling.seed == 2**64 - 1
        assert log.spec.stop_ids == (STOP_ID,)


async def test_the_scheduler_is_told_the_temperature() -> None:
    async with running_stack() as stack:
        for temperature in (0, 0.7):
            await stack.complete(temperature=temperature)
        assert [submit.temperature for submit in stack.core.submits] == [0.0, 0.7]


async def test_a_chat_goes_through_the_template_and_ends_at_the_stop_token() -> None:
    async with running_stack() as stack:
        stack.core.text = lambda log: [*byte_bpe().encode(TEXT), STOP_ID]
        status, body = await stack.chat(max_completion_tokens=50, user="me")
        assert status == 200
        message = body["choices"][0]["message"]
        assert (message["role"], message["content"]) == ("assistant", TEXT)
        assert body["choices"][0]["finish_reason"] == "stop"
        log = await stack.link.broker.sessions.load(stack.core.submits[0].session)
        expected = byte_bpe().encode_chat([{"role": "user", "content": "say it"}])
        assert log.spec.prompt == tuple(expected)
        assert log.spec.sampling.temperature == 1.0


async def test_without_a_limit_a_chat_may_fill_the_context() -> None:
    async with running_stack() as stack:
        await stack.chat()
        submit = stack.core.submits[0]
        assert submit.prompt_len + submit.max_tokens == 512


async def test_several_prompts_are_choices() -> None:
    async with running_stack() as stack:
        stack.core.text = lambda log: list(log.spec.prompt)
        status, body = await stack.complete(prompt=["one", "two", "three"], outrider={"spans": True})
        assert status == 200
        assert [choice["text"] for choice in body["choices"]] == ["one", "two", "three"]
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert len({choice["seed"] for choice in body["outrider"]["choices"]}) == 3
        chunks = await stream(stack, prompt=["one", "two"], stream_options={"include_usage": True})
        for index, text in enumerate(("one", "two")):
            own = [c for chunk in chunks[:-1] for c in chunk["choices"] if c["index"] == index]
            assert "".join(choice["text"] for choice in own) == text
            assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["length"]
        assert chunks[-2]["usage"]["completion_tokens"] == sum(
            len(byte_bpe().encode(t)) for t in ("one", "two")
        )


async def test_token_ids_as_prompt() -> None:
    async with running_stack() as stack:
        stack.core.text = lambda log: list(log.spec.prompt)
        ids = byte_bpe().encode(TEXT)
        assert (await stack.complete(prompt=ids))[1]["choices"][0]["text"] == TEXT
        assert [c["text"] for c in (await stack.complete(prompt=[ids, ids]))[1]["choices"]] == [TEXT, TEXT]


async def test_logprobs() -> None:
    async with running_stack() as stack:
        _, body = await stack.complete(logprobs=1)
        logprobs = body["choices"][0]["logprobs"]
        assert "".join(logprobs["tokens"]) == TEXT
        assert logprobs["text_offset"] == [
            len("".join(logprobs["tokens"][:i])) for i in range(len(logprobs["tokens"]))
        ]
        assert set(logprobs["token_logprobs"]) == {-0.25}
        _, body = await stack.chat(logprobs=True, top_logprobs=2)
        content = body["choices"][0]["logprobs"]["content"]
        assert "".join(entry["token"] for entry in content) == TEXT
        assert all(len(entry["top_logprobs"]) == 2 for entry in content)
        assert (await stack.chat(top_logprobs=2))[1]["error"]["param"] == "top_logprobs"


async def test_a_stop_string_across_tokens_ends_the_session_everywhere() -> None:
    async with running_stack() as stack:
        stack.core.pause_s, stack.core.width = 0.02, 1
        _, body = await stack.complete(stop=["ld, h", "zzz"])
        assert body["choices"][0]["text"] == "hello wor"
        assert body["choices"][0]["finish_reason"] == "stop"
        chunks = await stream(stack, stop="ld, h")
        assert text_of(chunks) == "hello wor"
        await until(lambda: len(stack.core.cancels) == 2)
        assert {cancel.reason for cancel in stack.core.cancels} == {"stop"}
        assert len(stack.gateway.sessions) == 0


async def test_ignore_eos_opens_without_stop_ids() -> None:
    async with running_stack() as stack:
        await stack.complete(ignore_eos=True)
        assert (await stack.link.broker.sessions.load(stack.core.submits[0].session)).spec.stop_ids == ()
