"""Processes are added, killed, drained and replaced under load: every text is the reference's, no request fails."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cli.admin import Admin
from cli.stack.processes import Supervised
from cli.stack.stack import LocalStack
from loadgen.client.streaming import Client
from tests.exactness.runner import CASES, options, request
from tests.integration.elastic import Balancer, another, sessions_by_verifier

pytestmark = pytest.mark.slow

Case = dict[str, Any]


@asynccontextmanager
async def running(folder: Path, state_dir: Path, **env: str) -> AsyncIterator[LocalStack]:
    """SmolLM2 in float32, two draft workers, a thread for each verifier."""
    async with LocalStack(options(folder, True, state_dir, OUTRIDER_VERIFIER_THREADS="1", **env)) as stack:
        yield stack


async def texts(url: str, cases: Sequence[Case]) -> None:
    """Run all cases at once, and compare the texts with the reference."""
    async with Client(url) as client:
        records = await client.chat_all([request(case) for case in cases])
    for case, record in zip(cases, records, strict=True):
        assert not record.error, f"{case['id']}: {record.error}"
        assert record.tokens == case["tokens"], case["id"]


async def until_spread(stack: LocalStack, sessions: int, over: set[str]) -> None:
    """Wait until this number of sessions is open, in equal shares on these verifiers."""
    async with asyncio.timeout(30):
        while await sessions_by_verifier(stack) != dict.fromkeys(over, sessions // len(over)):
            await asyncio.sleep(0.02)


async def moved(stack: LocalStack) -> int:
    """Number of sessions that were moved to another verifier."""
    scheduler = stack.processes["scheduler"].spec.ready_url.replace("/readyz", "/metrics")
    async with aiohttp.ClientSession() as session, session.get(scheduler) as response:
        lines = (await response.text()).splitlines()
    counts = [line for line in lines if line.startswith('outrider_scheduler_moves_total{what="verifier"}')]
    return int(float(counts[0].split()[-1])) if counts else 0


def listens(gateway: Supervised) -> str:
    """Address of a gateway for clients."""
    return f"127.0.0.1:{gateway.spec.env['OUTRIDER_PORT']}"


async def verifiers(stack: LocalStack) -> list[str]:
    """Names of the verifiers with a heartbeat."""
    async with Admin(stack.url) as admin:
        return [beat["name"] for beat in (await admin.status())["verifiers"]]


async def test_of_two_verifiers_one_is_killed_and_one_drained(models_dir: Path, tmp_path: Path) -> None:
    async with running(models_dir, tmp_path) as stack:
        second = await another(stack, "verifier", "verifier-2")
        assert await verifiers(stack) == ["verifier", "verifier-2"]

        load = asyncio.create_task(texts(stack.url, CASES[:8]))
        await until_spread(stack, 8, {"verifier", "verifier-2"})
        second.kill()
        await load
        assert await moved(stack) == 4
        assert set(await sessions_by_verifier(stack)) <= {"verifier"}

        third = await another(stack, "verifier", "verifier-3")
        load = asyncio.create_task(texts(stack.url, CASES[8:16]))
        await until_spread(stack, 8, {"verifier", "verifier-3"})
        await third.stop()
        assert third.pid == 0
        assert "verifier-3" not in await verifiers(stack)  # at once, and not when its heartbeat has lapsed
        await load
        assert await moved(stack) == 8


async def ended(process: Supervised, within_s: float) -> None:
    """Wait until a process that was stopped has exited."""
    async with asyncio.timeout(within_s):
        while process.pid:
            await asyncio.sleep(0.1)


async def test_scheduler_and_gateway_are_replaced_under_load(models_dir: Path, tmp_path: Path) -> None:
    async with running(models_dir, tmp_path, OUTRIDER_LINGER_S="1", OUTRIDER_DRAIN_S="50") as stack:
        older = await another(stack, "gateway", "gateway-1")
        served: list[str] = []
        enough = asyncio.Event()

        async def user(number: int, url: str) -> None:
            cases = iter(CASES[number * 8 :] + CASES[: number * 8])
            async with Client(url) as client:
                while not enough.is_set():
                    case = next(cases)
                    record = await client.chat(request(case))
                    assert not record.error, f"{case['id']}: {record.error}"
                    assert record.tokens == case["tokens"], case["id"]
                    served.append(case["id"])

        async def a_few_more() -> None:
            goal = len(served) + 6
            async with asyncio.timeout(60):
                while len(served) < goal:
                    assert not users.done()
                    await asyncio.sleep(0.05)

        async with Balancer({listens(older): older.spec.ready_url}) as balancer:
            users = asyncio.gather(*(user(number, balancer.url) for number in range(4)))
            await a_few_more()

            await another(stack, "scheduler", "scheduler-2")
            await stack.processes["scheduler"].stop()
            await a_few_more()

            newer = await another(stack, "gateway", "gateway-2")
            balancer.gateways[listens(newer)] = newer.spec.ready_url
            older.kill(signal.SIGTERM)
            await ended(older, 60)
            assert "draining" in older.log_file.read_text()
            await a_few_more()
            enough.set()
            await users
            assert set(balancer.passed) == {listens(older), listens(newer)}
