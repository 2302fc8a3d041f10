"""The live ring's code on virtual time, with links within the process: as fast as the modelled ring."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cli.bench.pipeline.live.hidden import embed, to_bytes
from cli.bench.pipeline.live.live_ring import LiveRing
from cli.bench.pipeline.live.measure_live import run_over
from cli.bench.pipeline.live.packets import Piece, pack
from cli.bench.pipeline.live.ports import alongside
from cli.bench.pipeline.live.stage import LiveStage
from services.verifier.stages.link import LinkBroken, QueueLink
from shared.planning.pieces import PipelineLaw, StageLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.laws import LAWS
from simulator.pipeline.methods.registry import METHODS
from simulator.pipeline.ring import Row
from simulator.pipeline.run import run_method
from simulator.pipeline.timeline import Timeline
from simulator.virtual_loop import run_virtual

LAW = PipelineLaw((StageLaw(10.0, 1.0), StageLaw(20.0, 2.0)), 1.0, 0.5, 5.0, StageLaw(0.0, 0.0), layers=4)


@dataclass
class QueuePeer:
    """Links with a rank that is a task of this process."""

    inbound: QueueLink
    outbound: QueueLink


def play(law: PipelineLaw, work: Callable[[LiveRing], Awaitable[Any]]) -> Any:
    """The result of work over stages that are tasks of this process, on virtual time."""

    async def run() -> Any:
        links = [QueueLink() for _ in range(len(law.stages) + 1)]
        down = [QueuePeer(QueueLink(), QueueLink()) for _ in law.stages]
        up = [QueuePeer(peer.outbound, peer.inbound) for peer in down]
        stages = [
            LiveStage(at + 1, law, links[at], links[at + 1], up[at]).run() for at in range(len(law.stages))
        ]
        ring = LiveRing(law, links[-1], links[0], down)

        async def whole() -> Any:
            result = await work(ring)
            await ring.close()
            return result

        return await alongside(
            ring.serving(whole()), asyncio.wait([asyncio.ensure_future(s) for s in stages])
        )

    return run_virtual(run())


def rows(*nodes: int) -> list[Row]:
    return [Row(0, node, node - 1, node, node) for node in nodes]


def times(script: Callable[[LiveRing], Awaitable[int]]) -> tuple[list[float], Timeline]:
    """When as many pieces as a script says have returned, in ms, and what the stages did."""
    timeline = Timeline(2)

    async def work(ring: LiveRing) -> list[float]:
        loop = asyncio.get_running_loop()
        began, found = loop.time(), []
        for _ in range(await script(ring)):
            await ring.receive()
            found.append(1e3 * (loop.time() - began))
        await ring.finish(timeline)
        return found

    return play(LAW, work), timeline


def test_pieces_take_passes_hops_and_wires() -> None:
    async def script(ring: LiveRing) -> int:
        ring.send(rows(0, 1))
        ring.send(rows(2, 3))
        return 2

    returned, timeline = times(script)
    # 1 + (10 + 2) + (1 + 0.5 · 2) + (20 + 4) + (1 + 0.5 · 2), and the slowest stage's pass once more
    assert returned == pytest.approx([41.0, 65.0], abs=0.01)
    assert [(one.stage, one.rows) for one in timeline.passes] == [(1, 2), (1, 2), (2, 2), (2, 2)]


def test_dead_rows_are_left_out_between_layers() -> None:
    async def script(ring: LiveRing) -> int:
        ring.send(rows(0))
        ring.send(rows(1, 2))
        await asyncio.sleep(0.002)
        ring.decided(0, Decision(0, 99, True, (0, 1, 2)))
        return 2

    returned, timeline = times(script)
    # heard at 3 ms, in the first of four layers of 2.75 ms, which ends at 3.75; the second piece is dead as it begins
    assert [(one.stage, one.rows, one.dropped) for one in timeline.passes] == [(1, 0, 1)]
    assert returned == pytest.approx([5.75, 5.75], abs=0.01)
    assert timeline.messages == 6 + 2  # two pieces on three links, a decision on two


def test_the_time_of_a_hop_is_measured_and_its_messages_belong_to_no_run() -> None:
    timeline = Timeline(2)

    async def work(ring: LiveRing) -> Any:
        hop_ms = await ring.measure_hop()
        ring.send(rows(0))
        await ring.receive()
        await ring.finish(timeline)
        return hop_ms

    assert play(LAW, work) == pytest.approx(LAW.hop_ms, abs=0.01)
    assert timeline.messages == 3


def test_a_turn_moves_everything_by_one_stage() -> None:
    async def work(ring: LiveRing) -> list[Any]:
        found = []
        for piece in (rows(0), rows(1), [], []):
            ring.turns.begin()
            found.append(await ring.turns.end(piece))
        return found

    assert play(LAW, work) == [None, None, tuple(rows(0)), tuple(rows(1))]


def test_a_decision_between_turns_removes_what_stages_hold() -> None:
    async def work(ring: LiveRing) -> list[Any]:
        found = []
        for piece in (rows(0, 1), [], []):
            ring.turns.begin()
            found.append(await ring.turns.end(piece))
            ring.turns.decided(0, Decision(1, 1, False, (0,)))
        return found

    assert play(LAW, work) == [None, None, tuple(rows(1))]


@pytest.mark.parametrize("method", [*(pytest.param(m, marks=pytest.mark.slow) for m in ("c", "e")), "f"])
def test_methods_are_as_fast_as_over_the_modelled_ring(method: str) -> None:
    law = LAWS["edge"](3, 0.3)
    made = METHODS[method].make(law, 0.75, 1)

    async def work(ring: LiveRing) -> Any:
        await run_over(ring, made, law, 0.75, 1, 20, 4)  # a run leaves nothing behind for the next one
        return await run_over(ring, made, law, 0.75, 1, 80, 5)

    live, simulated = play(law, work), run_method(made, law, 0.75, 1, 80, 5)
    assert live.tokens_per_s == pytest.approx(simulated.tokens_per_s, rel=0.03)
    assert live.idle == pytest.approx(simulated.idle, abs=0.03)
    assert live.bytes_per_token == pytest.approx(simulated.bytes_per_token, rel=0.15)


def test_wrong_activations_end_the_run() -> None:
    async def run() -> None:
        inbound, outbound = QueueLink(), QueueLink()
        ring = LiveRing(LAW, inbound, outbound, [])
        await inbound.send(pack(Piece(tuple(rows(0)), to_bytes(embed(rows(0)))), 0.0))
        await ring.serving(ring.wait(float("inf")))

    with pytest.raises(LinkBroken, match="have not passed every stage"):
        run_virtual(run())


def test_a_broken_link_ends_the_run() -> None:
    async def run() -> None:
        inbound, outbound = QueueLink(), QueueLink()
        outbound.broken = True
        ring = LiveRing(LAW, inbound, outbound, [])
        ring.send(rows(0))
        await ring.serving(ring.wait(float("inf")))

    with pytest.raises(LinkBroken, match="the link was cut"):
        run_virtual(run())
