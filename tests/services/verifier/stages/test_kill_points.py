"""A rank of a pipeline dies at each point of a step, in the middle of prefill and of a rebuild: the text is the same.

Rank 0, the first stage and the last one, with rows and with trees; and a second time while the group recovers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from services.verifier.loading import load_target
from services.verifier.stages.pipelined_target import PREFILL_PIECE
from services.verifier.stages.rank_parts import ModelPlan, model_plan
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.target import TargetRow
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import StagedBatch, StagedRow, Submit, Verdict
from shared.protocol.session import SessionSpec
from shared.runtime.settings import VerifierSettings, load
from shared.speculative.params import SamplingParams
from simulator.virtual_loop import run_virtual
from tests.services.verifier.stages.mortal_group import POINTS, Death, MortalGroup
from tests.services.verifier.stages.ranks import model
from tests.services.verifier.tiny import VOCAB

STAGES = 2
PROMPT = tuple(3 + (7 * at) % 90 for at in range(2 * PREFILL_PIECE + 20))  # three pieces
TOKENS = 24
SAMPLING = SamplingParams(seed=4, vocab=VOCAB, temperature=0.8)
PREFILL = 3  # pieces
TIMER_S = 30.0  # without a verdict the scheduler places the session anew, and stages its next row
KEYS = Keys()


@dataclass(frozen=True)
class World:
    """What all cases share: a model, and the text that it alone says."""

    folder: str
    text: tuple[int, ...]

    def settings(self, trees: bool) -> VerifierSettings:
        own = {"core_draft": self.folder} if trees else {}
        return load(
            VerifierSettings,
            name="v",
            target="torch",
            model_dir=self.folder,
            stages=STAGES,
            dtype="float32",
            kv_tokens=512,
            **own,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = str(model(tmp_path_factory.mktemp("kill") / "model"))
    one, ids = load_target(folder, dtype="float32", device="cpu", kv_tokens=512), list(PROMPT)
    assert one.admit("a", ids, [], len(ids) + TOKENS)
    fed = 0
    for _ in range(TOKENS):
        row = TargetRow("a", fed, tuple(ids[fed:]), len(ids) - fed, True, SAMPLING)
        fed = len(ids)
        ids.append(one.forward([row])[0].tokens[0])
    return World(folder, tuple(ids[len(PROMPT) :]))


class Scheduler:
    """Stages one session's rows until it is over, as the scheduler would: with drafts that are right at first."""

    def __init__(self, world: World, server: MemoryServer, trees: bool) -> None:
        self._text = world.text
        self._broker = MemoryBroker(server)
        self._trees = trees
        self._epoch = 1
        self._batch = 0

    async def run(self) -> tuple[int, ...]:
        """The committed text."""
        broker = self._broker
        spec = SessionSpec("a", PROMPT, SAMPLING, TOKENS, (), "g:1", 600_000)
        await broker.sessions.submit(spec, Submit("a", len(PROMPT), TOKENS, 600_000, "g:1"))
        await broker.sessions.place("a", self._epoch, "v", "d:1")
        await broker.streams.make_groups([KEYS.verdicts])
        while True:
            log = await broker.sessions.load("a")
            if log.head.finish:
                return tuple(log.committed)
            await self._stage(log.committed)
            while verdict := await self._verdict():
                if not verdict.keeps:
                    break
            else:
                self._epoch += 1
                await broker.sessions.place("a", self._epoch, "v", "d:1")

    async def _stage(self, committed: Sequence[int]) -> None:
        self._batch += 1
        length, right = len(PROMPT) + len(committed), self._text[len(committed) :][:2]
        drafts = () if self._trees else (*right, 5)
        row = StagedRow(
            "a",
            self._epoch,
            self._batch,
            length,
            length,
            4,
            "d:1",
            "g:1",
            drafts,
            tree="core" if self._trees else "",
        )
        await self._broker.streams.push(KEYS.staged("v"), StagedBatch(1, self._batch, (row,)))

    async def _verdict(self) -> Verdict | None:
        entries = await self._broker.streams.read_group([KEYS.verdicts], "scheduler", 1, TIMER_S)
        if not entries:
            return None
        await self._broker.streams.ack(KEYS.verdicts, [entry.id for entry in entries])
        return wire.decode_as(Verdict, entries[0].data)


class Gateway:
    """Reads what the session's gateway is told."""

    def __init__(self, server: MemoryServer) -> None:
        self._broker = MemoryBroker(server)
        self._read: dict[int, int] = {}

    async def run(self) -> None:
        """Read until it is cancelled. A token that is told again has to be the same."""
        last = "0"
        while True:
            for entry in await self._broker.streams.read_inbox(KEYS.reply("g:1"), last, 100, TIMER_S):
                last = entry.id
                verdict = wire.decode_as(Verdict, entry.data)
                for at, token in enumerate(verdict.tokens, start=verdict.base_len):
                    assert self._read.setdefault(at, token) == token

    @property
    def text(self) -> tuple[int, ...]:
        """In the order of the positions."""
        return tuple(token for _, token in sorted(self._read.items()))


@dataclass(frozen=True)
class Outcome:
    """What came out. groups: that were formed; started: processes by rank."""

    text: tuple[int, ...]
    streamed: tuple[int, ...]
    fallen: Sequence[Death]
    groups: int
    started: dict[int, int]


def play(world: World, plan: ModelPlan, deaths: Sequence[Death], trees: bool) -> Outcome:
    """One session's text while ranks die."""

    async def main() -> Outcome:
        server = MemoryServer()
        group = MortalGroup(world.settings(trees), plan, server, deaths)
        running = asyncio.ensure_future(group.run())
        writing = asyncio.ensure_future(Scheduler(world, server, trees).run())
        gateway = Gateway(server)
        reading = asyncio.ensure_future(gateway.run())
        async with asyncio.timeout(3600):
            await asyncio.wait((running, writing), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            text = writing.result()
            group.stop.set()
            await running
        assert not reading.done()
        reading.cancel()
        return Outcome(
            text,
            gateway.text,
            group.fate.fallen,
            group.groups,
            dict(group.started),
        )

    return run_virtual(main())


def survives(world: World, deaths: Sequence[Death], trees: bool) -> None:
    """The text, and what the gateway is told, is the target's own; only those that died started anew."""
    came = play(world, model_plan(world.settings(trees)), deaths, trees)
    assert came.text == world.text
    assert came.streamed == world.text
    assert list(came.fallen) == list(deaths)
    assert came.groups == 1 + len(deaths)
    assert came.started == {
        rank: 1 + sum(death.rank == rank for death in deaths) for rank in range(STAGES + 1)
    }


SLOW = pytest.mark.slow  # half a second each, and there are many
RANKS = pytest.mark.parametrize("rank", [0, 1, pytest.param(STAGES, marks=SLOW)])
TREES = pytest.mark.parametrize(
    "trees", [pytest.param(False, id="rows"), pytest.param(True, id="trees", marks=SLOW)]
)


@TREES
def test_without_a_death(trees: bool, world: World) -> None:
    survives(world, [], trees)


@TREES
@RANKS
@pytest.mark.parametrize("point", POINTS)
def test_at_each_point_of_a_step(point: str, rank: int, trees: bool, world: World) -> None:
    survives(
        world, [Death(rank, point, PREFILL + 2 if point in ("unsent", "sent", "computed") else 3)], trees
    )


@TREES
@RANKS
@pytest.mark.parametrize(
    "point", ["sent", *(pytest.param(point, marks=SLOW) for point in ("unsent", "computed"))]
)
def test_in_the_middle_of_prefill(point: str, rank: int, trees: bool, world: World) -> None:
    survives(world, [Death(rank, point, 2)], trees)


@TREES
@RANKS
@pytest.mark.parametrize("first", [0, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW)])
def test_a_second_time_while_the_cache_is_rebuilt(first: int, rank: int, trees: bool, world: World) -> None:
    survives(world, [Death(first, "committed", 3), Death(rank, "sent", 2)], trees)


@TREES
@RANKS
def test_a_second_time_at_the_first_commit_after_the_first(rank: int, trees: bool, world: World) -> None:
    survives(world, [Death(rank, "decided", 3), Death(0, "committed", 1)], trees)
