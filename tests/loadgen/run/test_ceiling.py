"""Steps of the ceiling end in time, even far above what can be served."""

import asyncio
import signal
import socket
import sys
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from loadgen.client.streaming import Client
from loadgen.mock_server import Mock, application
from loadgen.run import ceiling
from tests.loadgen.mock_runs import requests, served


async def test_an_overloaded_step_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker that needs a second for each of hundreds of requests."""
    monkeypatch.setattr(ceiling, "SECONDS", 0.3)
    monkeypatch.setattr(ceiling, "GRACE_S", 0.3)
    async with served(Mock(workers=1, service_s=1.0, tokens=1)) as url:
        step = await asyncio.wait_for(ceiling._step(url, 500.0), 15)
    assert not step.kept_up
    assert step.errors > 20
    assert step.served < 50


async def test_a_rate_that_is_kept_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "SECONDS", 1.0)
    async with served(Mock(workers=9, service_s=0.0, tokens=1)) as url:
        step = await ceiling._step(url, 20.0)
    assert step.errors == 0
    assert step.served == pytest.approx(20.0, rel=0.1)


async def test_disconnecting_clients_are_not_errors_of_the_mock_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They disconnect during their answers, which go on all the same: as usual, aiohttp does not cancel handlers."""
    runner = web.AppRunner(application(Mock(workers=20, service_s=0.2, tokens=4)), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with Client(url, plain=True) as client:
            tasks = [asyncio.create_task(client.chat(request)) for request in requests(20)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.4)
    finally:
        await runner.cleanup()
    assert [record.message for record in caplog.records] == []


@pytest.mark.slow
async def test_the_mock_server_stops_during_an_answer() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("mock-server", "--port", str(port), "--service-ms", "600000")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadgen", *words, stdout=asyncio.subprocess.DEVNULL
    )
    async with Client(f"http://127.0.0.1:{port}", plain=True) as client:
        async with asyncio.timeout(60):
            while True:
                with suppress(aiohttp.ClientError):
                    assert await client.model() == "mock"
                    break
                await asyncio.sleep(0.1)
        waiting = asyncio.create_task(client.chat(requests(1)[0]))
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)
        assert (await waiting).fault == "cut"
