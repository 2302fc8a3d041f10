"""One verifier on the in-memory broker, with its peers' ends of the broker in a test's hands."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from services.verifier.verifier import Verifier
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.compute.modelled import STOP
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import Choices, TargetRow
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import StagedBatch, StagedRow, Submit, Verdict
from shared.protocol.session import SessionSpec
from shared.runtime.ids import Ids
from shared.runtime.settings import VerifierSettings, load
from shared.speculative.params import SamplingParams
from simulator.virtual_loop import run_virtual

VOCAB = 1000
PROMPT = tuple(range(1, 41))
KEYS = Keys()
STAGED = KEYS.staged("v")


def sampling(seed: int = 5) -> SamplingParams:
    return SamplingParams(seed=seed, vocab=VOCAB)


def row(session: str, base_len: int, *tokens: int, **changes: Any) -> StagedRow:
    made = StagedRow(session, 1, 1, base_len, base_len, 4, "d:1", "g:1", tokens)
    return replace(made, **changes)


class Poison(ModelledTarget):
    """Raises, or kills the process, when it sees a session."""

    def __init__(self, session: str, error: type[BaseException] = RuntimeError, **options: Any) -> None:
        super().__init__(VOCAB, **options)
        self.session, self.error = session, error

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        if any(seen.session == self.session for seen in rows):
            raise self.error("poison")
        return super().forward(rows)


class Bench:
    """One verifier with the scheduler's, device's and gateway's ends of the broker in hand."""

    def __init__(
        self, target: ModelledTarget | None = None, server: MemoryServer | None = None, **settings: Any
    ):
        self.server = server or MemoryServer()
        self.broker = MemoryBroker(self.server)
        self.own = MemoryBroker(self.server)
        self.target = target or ModelledTarget(VOCAB)
        self.settings = load(VerifierSettings, name="v", target="modelled", **settings)
        self.stop = asyncio.Event()
        self.batch = 0
        self.start()

    def start(self) -> None:
        self.registry = CollectorRegistry()
        self.verifier = Verifier(self.settings, self.own, self.target, InlineCompute(), Ids(1), self.registry)
        self.task = asyncio.create_task(self.verifier.run(self.stop))

    async def __aenter__(self) -> "Bench":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        if not self.task.done():
            await self.task

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"outrider_verifier_{name}", labels) or 0.0

    async def session(self, name: str, prompt: Sequence[int] = PROMPT, **changes: Any) -> None:
        """A session as its gateway and scheduler leave it for us."""
        spec = SessionSpec(name, tuple(prompt), sampling(), 20, (STOP,), "g:1", 60_000)
        spec = replace(spec, **changes)
        await self.broker.sessions.submit(spec, Submit(name, len(prompt), spec.max_tokens, 60_000, "g:1"))
        await self.broker.sessions.place(name, 1, "v", "d:1")

    async def stage(self, *rows: StagedRow, term: int = 1) -> None:
        self.batch += 1
        await self.broker.streams.push(STAGED, StagedBatch(term, self.batch, rows))

    async def verdicts(self, count: int) -> list[Verdict]:
        """The next verdicts that the scheduler gets."""
        await self.broker.streams.make_groups([KEYS.verdicts])
        verdicts: list[Verdict] = []
        while len(verdicts) < count:
            entries = await self.broker.streams.read_group([KEYS.verdicts], "scheduler", 100, 30.0)
            assert entries, f"{len(verdicts)} of {count} verdicts came"
            verdicts += [wire.decode_as(Verdict, entry.data) for entry in entries]
            await self.broker.streams.ack(KEYS.verdicts, [entry.id for entry in entries])
        return verdicts

    async def ask(self, *rows: StagedRow) -> list[Verdict]:
        """Stage one batch; its answers, in the order of its rows."""
        await self.stage(*rows)
        verdicts = await self.verdicts(len(rows))
        return sorted(verdicts, key=lambda v: [row.session for row in rows].index(v.session))

    async def settled(self) -> None:
        """Until the staged stream is empty."""
        while await self.broker.streams.length(STAGED):
            await asyncio.sleep(0.05)


def on_bench(test: Any) -> Any:
    """Run an async test under virtual time; nothing it does may take longer than an hour of it."""

    def run() -> None:
        run_virtual(asyncio.wait_for(test(), 3600))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
