"""Sessions that end early: disconnected clients, cancels, deadlines."""

import asyncio

import pytest

from tests.services.gateway.stack import MODEL, running_stack, until


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_goes_away_cancels_its_session(streaming: bool) -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        call = asyncio.create_task(stack.complete(stream=streaming))
        await until(lambda: stack.core.submits)
        call.cancel()
        await until(lambda: stack.core.cancels)
        assert stack.core.cancels[0].session == stack.core.submits[0].session
        assert len(stack.gateway.sessions) == 0


async def test_a_client_that_goes_away_in_mid_stream() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.02
        body = {"model": MODEL, "prompt": "x", "max_tokens": 100, "stream": True}
        async with stack.client.post("/v1/completions", json=body) as response:
            await response.content.readline()
            response.close()
        await until(lambda: stack.core.cancels)
        assert len(stack.gateway.sessions) == 0


async def test_a_cancel_waits_for_the_broker() -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        call = asyncio.create_task(stack.complete())
        await until(lambda: stack.core.submits)
        stack.link.away = True
        call.cancel()
        await until(lambda: len(stack.gateway.sessions) == 0)
        await asyncio.sleep(0.1)
        stack.link.away = False
        await until(lambda: stack.core.cancels)


async def test_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.sessions.OVERDUE_S", 0.1)
    monkeypatch.setattr("services.gateway.sessions.TICK_S", 0.05)
    async with running_stack(request_timeout_s=0.3) as stack:
        stack.core.hold.clear()
        status, body = await stack.complete()
        assert (status, body["error"]["type"]) == (504, "timeout_error")
        await until(lambda: stack.core.cancels)
        assert stack.core.cancels[0].reason == "deadline"
