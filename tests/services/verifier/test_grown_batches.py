"""Batches of nodes that devices have grown: given to sessions that are kept, and always acknowledged."""

import asyncio
from collections.abc import Sequence

from services.verifier.passes import OnePass, UnderWay
from shared.broker.contract import BrokerAway
from shared.broker.memory_broker import MemoryBroker
from shared.broker.memory_link import Direct
from shared.protocol.messages import Grown, StagedBatch
from tests.services.verifier.verifier_bench import KEYS, STAGED, Bench, on_bench, row

NODES = Grown("a", 1, 41, 0, (5, 6), (-1, 0), b"\x80\x70")


class Keeper(OnePass):
    """Notes the nodes that it is given. says: why it does not take them."""

    says = ""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.target, bench.verifier._compute)
        self.got: list[Grown] = []

    def graft(self, grown: Grown) -> str:
        self.got.append(grown)
        return self.says


def keeper_of(bench: Bench) -> Keeper:
    keeper = Keeper(bench)
    bench.verifier._passes = keeper
    return keeper


async def grown(bench: Bench, *nodes: Grown, term: int = 1) -> None:
    bench.batch += 1
    await bench.broker.streams.push(STAGED, StagedBatch(term, bench.batch, (), nodes))


def numbered(numbers: Sequence[int]) -> list[Grown]:
    return [Grown("a", 1, 41, number, (5,), (-1,), b"\x80") for number in numbers]


@on_bench
async def test_nodes_are_given_in_their_order_and_get_no_verdict() -> None:
    async with Bench() as bench:
        keeper = keeper_of(bench)
        nodes = numbered(range(7))
        await grown(bench, *nodes[:3])
        await grown(bench, *nodes[3:])
        await bench.settled()
        assert keeper.got == nodes
        assert await bench.broker.streams.length(KEYS.verdicts) == 0
        assert bench.count("batches_total") == 0
        await bench.session("a")
        (verdict,) = await bench.ask(row("a", 40))  # and all goes on
        assert verdict.length == 41


@on_bench
async def test_nodes_do_not_wait_for_a_pass_under_way() -> None:
    async with Bench() as bench:
        keeper = keeper_of(bench)
        bench.verifier._under_way = UnderWay(2)
        await bench.session("a")
        await bench.stage(row("a", 40))
        await grown(bench, NODES)
        await asyncio.sleep(0.03)
        assert (keeper.got, bench.count("batches_total")) == ([NODES], 0)
        (verdict,) = await bench.verdicts(1)
        assert verdict.length == 41


@on_bench
async def test_nodes_of_an_older_scheduler_are_passed_over_and_acknowledged() -> None:
    async with Bench() as bench:
        keeper = keeper_of(bench)
        await bench.session("a")
        await bench.stage(row("a", 40), term=5)
        await bench.verdicts(1)
        await grown(bench, NODES, term=4)
        await bench.settled()
        assert keeper.got == []
        await grown(bench, NODES, term=5)
        await grown(bench, NODES, term=6)
        await bench.settled()
        assert keeper.got == [NODES, NODES]


@on_bench
async def test_what_is_not_taken_is_counted_and_acknowledged() -> None:
    async with Bench() as bench:
        await grown(bench, NODES)  # this verifier keeps no sessions
        await bench.settled()
        assert bench.count("refused_messages_total", reason="nodes closed") == 1
        keeper_of(bench).says = "torn"
        await grown(bench, NODES, NODES)
        await bench.settled()
        assert bench.count("refused_messages_total", reason="nodes torn") == 2
        assert await bench.broker.streams.length(KEYS.dead) == 0


class AwayAtAck(Direct):
    """A link on which the first acknowledgements fail."""

    left = 2

    async def before(self, operation: str, sent: int) -> None:
        await super().before(operation, sent)
        if operation == "ack" and self.left:
            self.left -= 1
            raise BrokerAway("no answer")


@on_bench
async def test_a_broker_that_is_away_gets_its_acknowledgement_later() -> None:
    bench = Bench()
    bench.stop.set()
    await bench.task
    bench.stop, bench.own = asyncio.Event(), MemoryBroker(bench.server, link=AwayAtAck())
    bench.start()
    keeper = keeper_of(bench)
    await bench.session("a")
    await grown(bench, NODES)
    await bench.settled()
    assert keeper.got[0] == NODES  # perhaps more than once, which does no harm
    (verdict,) = await bench.ask(row("a", 40))
    assert verdict.length == 41
    await bench.__aexit__()


@on_bench
async def test_nodes_that_a_verifier_left_are_passed_over_by_the_next() -> None:
    bench = Bench()
    while bench.verifier.not_ready_reason():
        await asyncio.sleep(0.01)
    bench.task.cancel()
    await asyncio.wait([bench.task])
    await grown(bench, NODES)
    bench.start()
    await bench.settled()
    assert bench.count("refused_messages_total", reason="nodes closed") == 1
    await bench.__aexit__()
