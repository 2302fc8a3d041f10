"""What a verifier tells of itself: the deployment's record, its heartbeat, and when it is ready."""

import asyncio

from services.verifier.verifier import DEPLOYMENT_S
from simulator.virtual_loop import run_virtual
from tests.services.verifier.verifier_bench import (
    KEYS,
    Bench,
    on_bench,
    row,
)


@on_bench
async def test_what_is_deployed_and_who_is_alive_can_be_read() -> None:
    async with Bench() as bench:
        await bench.session("a")
        await bench.ask(row("a", 40))
        await asyncio.sleep(2)
        deployment = await bench.broker.records.get(KEYS.deployment)
        assert deployment["vocabulary"] == bench.target.vocabulary
        assert (deployment["vocab"], deployment["pool_tokens"]) == ("1000", "16384")
        (heartbeat,) = await bench.broker.presence.alive("verifier")
        assert (heartbeat.name, heartbeat.capacity, heartbeat.load) == ("v", 16384, 48)
        assert heartbeat.detail == "modelled modelled"
        assert bench.verifier.not_ready_reason() is None


@on_bench
async def test_the_heartbeat_says_where_the_layers_run() -> None:
    async with Bench() as bench:
        passes = bench.verifier._passes
        passes.detail = lambda: "2 stages of 3, 1 layers"  # type: ignore[method-assign]
        await bench.verifier._presence.announce()
        (heartbeat,) = await bench.broker.presence.alive("verifier")
        assert heartbeat.detail == "modelled modelled, 2 stages of 3, 1 layers"


@on_bench
async def test_whoever_finds_it_ready_finds_it_alive() -> None:
    async with Bench() as bench:
        while bench.verifier.not_ready_reason():
            await asyncio.sleep(0)
        assert [beat.name for beat in await bench.broker.presence.alive("verifier")] == ["v"]


def test_a_deployment_record_that_somebody_deleted_is_written_again() -> None:
    async def scenario() -> None:
        async with Bench() as bench:
            await bench.session("s")
            await bench.ask(row("s", 40))
            written = await bench.broker.records.get(KEYS.deployment)
            bench.server.drop(KEYS.deployment)
            assert await bench.broker.records.get(KEYS.deployment) == {}
            await asyncio.sleep(2 * DEPLOYMENT_S)
            assert await bench.broker.records.get(KEYS.deployment) == written
            assert written["target"] == "modelled"

    run_virtual(scenario())


def test_a_broker_without_memory_only_delays_the_deployment_record() -> None:
    async def scenario() -> None:
        async with Bench() as bench:
            await bench.session("s")
            await bench.ask(row("s", 40))
            bench.server.drop(KEYS.deployment)
            bench.server.full = True
            await asyncio.sleep(3 * DEPLOYMENT_S)
            assert await bench.broker.records.get(KEYS.deployment) == {}
            assert not bench.task.done()
            bench.server.full = False
            await asyncio.sleep(2 * DEPLOYMENT_S)
            assert await bench.broker.records.get(KEYS.deployment)

    run_virtual(scenario())
