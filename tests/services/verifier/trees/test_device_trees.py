"""Trees that devices grow, in a real pipeline: the text is the target's own, whatever arrives, and when."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.verifier.core import VerifiedSession
from services.verifier.trees.piece_flow import PieceFlow
from services.verifier.trees.tree_engine import TreeEngine
from shared.compute.compute import InlineCompute
from shared.compute.target import TargetRow
from shared.planning.pieces import StageLaw
from shared.protocol.messages import Grown, StagedRow, Verdict
from tests.services.verifier.stages.rings import Pipeline, pipeline, saved
from tests.services.verifier.tiny import VOCAB, configs
from tests.services.verifier.trees.devices import Device
from tests.services.verifier.trees.scripted import ScriptedTreeDrafter
from tests.services.verifier.trees.test_tree_engine import (
    EMITTED,
    PROMPTS,
    Log,
    alone,
    prefill,
    sampling,
    staged,
)


class Heard(Log):
    """A log whose device hears of every step, some turns later."""

    def __init__(self, sessions: Sequence[str], device: Device, delay: int = 2) -> None:
        super().__init__(sessions)
        self.device, self._delay = device, delay
        self.accepted = 0
        self.verdicts: list[Verdict] = []

    async def commit(self, row: StagedRow, verdict: Verdict) -> bool:
        """Append a step, and tell the device."""
        committed = await super().commit(row, verdict)
        self.verdicts.append(verdict)
        self.accepted += verdict.accepted
        ids = tuple(self.texts[verdict.session])
        if committed:
            asyncio.ensure_future(self._notify(verdict, ids))  # noqa: RUF006  # over before the test is
        return committed

    async def _notify(self, verdict: Verdict, ids: Sequence[int]) -> None:
        for _ in range(self._delay):
            await asyncio.sleep(0)
        self.device.hear(verdict, ids, sampling(verdict.session))


def by_device(session: str) -> StagedRow:
    return replace(staged(session), tree="device", free=0, device="d:1")


def engine_of(piped: Pipeline, log: Log) -> TreeEngine:
    """An engine without a drafter of its own."""
    return TreeEngine(
        piped.target,
        piped.ring,
        InlineCompute(),
        None,
        asyncio.Lock(),
        log.commit,
        lambda chances, _: min(5, len(chances)),
        PieceFlow(StageLaw(0.0, 0.0), 3),
    )


async def run(piped: Pipeline, sessions: Sequence[str], log: Heard) -> None:
    """Run all sessions to their end, while their device grows."""
    engine = engine_of(piped, log)
    log.device.graft = engine.graft
    for session in sessions:
        engine.open(by_device(session), await prefill(piped, session))
        verdict = Verdict(session, 1, 0, 0, (), len(PROMPTS[session]), keeps=True, tree=len(PROMPTS[session]))
        log.device.hear(verdict, PROMPTS[session], sampling(session))

    async def grow() -> None:
        while True:
            log.device.turn()
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(engine.run()), asyncio.ensure_future(grow())]
    over = asyncio.ensure_future(log.over.wait())
    async with asyncio.timeout(60):
        await asyncio.wait((*tasks, over), return_when=asyncio.FIRST_COMPLETED)
    over.cancel()
    for task in tasks:
        task.cancel()
        if task.done() and not task.cancelled():
            task.result()


@pytest.mark.parametrize(
    ("right", "lost", "repeated", "late"),
    [
        (1.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 0.2, 0.0),
        (0.6, 0.3, 0.0, 0.0),
        (0.6, 0.0, 0.5, 0.4),
        (1.0, 0.1, 0.3, 0.3),
    ],
)
async def test_the_text_is_the_targets_own(
    right: float, lost: float, repeated: float, late: float, tmp_path: Path
) -> None:
    """At temperatures 0, 0.7 and 1, one after the other session."""
    config, sessions = configs()["llama"], list(PROMPTS)[:3]
    texts = {session: alone("llama", session) for session in sessions}
    async with pipeline(saved(config, tmp_path), config, (1, 3), kv_tokens=2048) as piped:
        device = Device(ScriptedTreeDrafter(texts, VOCAB, right), lost, repeated, late)
        log = Heard(sessions, device)
        await run(piped, sessions, log)
        assert {session: tuple(text) for session, text in log.texts.items()} == texts
        assert all(verdict.fused_drafted == 0 for verdict in log.verdicts)
        assert "" in device.answers
        if right == 1.0 and not lost:
            assert log.accepted > EMITTED
        if right == 0.0:
            assert log.accepted == 0


@pytest.mark.parametrize("name", ["gemma2", "qwen3, sliding"])
async def test_other_families(name: str, tmp_path: Path) -> None:
    config, sessions = configs()[name], list(PROMPTS)[:3]
    texts = {session: alone(name, session) for session in sessions}
    async with pipeline(saved(config, tmp_path), config, (1, 1, 1, 1), kv_tokens=2048) as piped:
        device = Device(ScriptedTreeDrafter(texts, VOCAB, 0.7), 0.05, 0.1, 0.1)
        log = Heard(sessions, device, delay=9)
        await run(piped, sessions, log)
        assert {session: tuple(text) for session, text in log.texts.items()} == texts


async def test_a_device_that_sends_nothing_leaves_the_target_alone(tmp_path: Path) -> None:
    config, session = configs()["llama"], "s1"
    text = alone("llama", session)
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        device = Device(ScriptedTreeDrafter({session: text}, VOCAB, 1.0), lost=1.0)
        log = Heard([session], device)
        await run(piped, [session], log)
        assert tuple(log.texts[session]) == text
        assert log.commits == EMITTED
        lengths = [verdict.length for verdict in log.verdicts[:-1]]
        assert [verdict.tree for verdict in log.verdicts] == [*lengths, 0]  # each token begins a tree


async def test_what_an_engine_says_to_nodes_that_it_does_not_take(tmp_path: Path) -> None:
    config, session = configs()["llama"], "s0"
    length = len(PROMPTS[session])
    good = Grown(session, 1, length, 0, (5, 6), (-1, -1), b"\x80\x70")
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        engine = engine_of(piped, Log([session]))
        assert engine.graft(good) == "closed"
        engine.open(by_device(session), await prefill(piped, session))
        for bad in (
            replace(good, epoch=2),
            replace(good, tokens=(5, VOCAB)),
            replace(good, parents=(0, -1)),
            replace(good, survival=b""),
            replace(good, first_node=-1),
        ):
            assert engine.graft(bad) == "malformed"
        assert engine.graft(good) == ""
        assert engine.graft(good) == "late"
        assert engine.graft(replace(good, tree=length + 1)) == "late"
        assert engine.graft(replace(good, first_node=9)) == "torn"
        assert engine.graft(replace(good, first_node=2)) == "torn"
        engine.drop(session)
        assert engine.graft(good) == "closed"


async def test_a_core_that_drafts_itself_takes_nothing_from_a_device(tmp_path: Path) -> None:
    config, session = configs()["llama"], "s0"
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        engine = engine_of(piped, Log([session]))
        assert engine.takes(by_device(session))
        assert not engine.takes(staged(session))  # there is no drafter
        assert not engine.takes(replace(staged(session), tree=""))
        engine.open(staged(session), await prefill(piped, session))
        grown = Grown(session, 1, len(PROMPTS[session]), 0, (5,), (-1,), b"\x80")
        assert engine.graft(grown) == "late"


async def test_a_session_is_given_back_in_the_middle_and_its_nodes_come_too_late(tmp_path: Path) -> None:
    config, session = configs()["llama"], "s2"
    text = alone("llama", session)
    async with pipeline(saved(config, tmp_path), config, (1, 2, 1)) as piped:
        device = Device(ScriptedTreeDrafter({session: text}, VOCAB, 0.8))
        log = Heard([session], device)
        engine = engine_of(piped, log)
        device.graft = engine.graft
        engine.open(by_device(session), await prefill(piped, session))
        begun = Verdict(session, 1, 0, 0, (), len(PROMPTS[session]), keeps=True, tree=len(PROMPTS[session]))
        device.hear(begun, PROMPTS[session], sampling(session))
        running = asyncio.ensure_future(engine.run())
        while log.commits < 4:
            device.turn()
            await asyncio.sleep(0.001)
        await engine.close(session)
        ids = log.texts[session]
        device.turn()
        assert device.answers[-1] == "closed"
        assert piped.target.cached(session) < len(ids)
        while len(ids) < len(text):
            start = piped.target.cached(session)
            assert piped.target.admit(session, ids, [session], len(ids))
            row = TargetRow(session, start, tuple(ids[start:]), len(ids) - start, True, sampling(session))
            ids += (await piped.forward([row]))[0].tokens
        assert tuple(ids) == text
        running.cancel()


async def test_a_tree_may_begin_after_a_row_with_a_draft(tmp_path: Path) -> None:
    """Such a row's tokens are no nodes of the tree."""
    config, session = configs()["llama"], "s1"
    text = alone("llama", session)
    length = len(PROMPTS[session]) + 3
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        device = Device(ScriptedTreeDrafter({session: text}, VOCAB, 0.9))
        log = Heard([session], device)
        log.texts[session] = list(text[:length])
        known = await prefill(piped, session)
        assert piped.target.admit(session, text[:length], [session], length)
        fed = TargetRow(
            session, len(PROMPTS[session]) - 1, text[length - 4 : length - 1], 3, False, sampling(session)
        )
        await piped.forward([fed])
        engine = engine_of(piped, log)
        device.graft = engine.graft
        row = replace(by_device(session), tokens=(5, 6, 7), round=4)
        engine.open(row, VerifiedSession(known.spec, 1, list(text[:length]), "", 1))
        device.hear(
            Verdict(session, 1, 0, 0, (), length, keeps=True, tree=length), text[:length], sampling(session)
        )
        running = asyncio.ensure_future(engine.run())
        async with asyncio.timeout(60):
            while not log.over.is_set():
                device.turn()
                await asyncio.sleep(0.001)
        running.cancel()
        assert tuple(log.texts[session]) == text
        assert log.accepted > 0
