"""The gateway while the broker is away, full, or back without its data."""

import asyncio
import json

from tests.services.gateway.reading import TEXT, stream, text_of
from tests.services.gateway.stack import MODEL, running_stack, until


async def test_a_short_absence_of_the_broker_only_pauses_a_stream() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.02
        call = asyncio.create_task(stream(stack))
        await until(lambda: stack.core.submits)
        stack.link.away = True
        await asyncio.sleep(0.7)
        assert (await stack.complete())[0] == 503
        stack.link.away = False
        assert text_of(await call) == TEXT


async def test_a_full_broker_is_503() -> None:
    async with running_stack() as stack:
        stack.link.server.full = True
        status, body = await stack.complete()
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert len(stack.gateway.sessions) == 0
        stack.link.server.full = False
        assert (await stack.complete())[0] == 200


async def test_a_broker_lost_ends_streams_with_an_error_event() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.05
        body = {"model": MODEL, "prompt": "x", "max_tokens": 100, "stream": True}
        async with stack.client.post("/v1/completions", json=body) as response:
            await response.content.readline()
            stack.link.away = True
            stack.gateway._watch._grace_s = 0.2
            rest = (await response.read()).decode().strip().split("\n\n")
        assert json.loads(rest[-1][6:])["error"]["type"] == "service_unavailable"
        async with stack.client.post("/v1/completions", json=body) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["code"] == "unavailable"
        stack.link.away = False
        await until(lambda: stack.core.cancels)
        await until(lambda: stack.gateway.api.not_ready_reason() is None)
        assert (await stack.complete())[0] == 200


async def test_a_broker_back_without_its_data_is_served_anew() -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        address = stack.gateway.sessions.address
        call = asyncio.create_task(stack.complete())
        await until(lambda: stack.core.submits)
        stack.link.lose_data()
        status, body = await call
        assert (status, body["error"]["code"]) == (503, "unavailable")
        stack.core.hold.set()
        await stack.core.announce()
        await until(lambda: stack.gateway.api.not_ready_reason() is None)
        assert stack.gateway.sessions.address != address
        assert (await stack.complete())[1]["choices"][0]["text"] == TEXT


async def test_a_gateway_told_to_stop_while_the_broker_is_away_stops() -> None:
    async with running_stack(drain_s=0.2) as stack:
        assert (await stack.complete())[0] == 200
        stack.link.away = True
        await asyncio.sleep(1.2)  # every loop has found out
        stack.stop.set()
        await asyncio.wait_for(stack.running, 5)
