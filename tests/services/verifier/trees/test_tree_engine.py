"""Trees decided piece by piece in a pipeline give the target's own text, whatever is drafted."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from services.verifier.core import VerifiedSession
from services.verifier.trees.core_tree_drafter import CoreTreeDrafter
from services.verifier.trees.piece_flow import PieceFlow
from services.verifier.trees.tree_engine import TreeEngine
from shared.compute.compute import Compute, InlineCompute
from shared.compute.target import TargetRow
from shared.compute.tree_drafter import TreeDrafter
from shared.planning.pieces import StageLaw
from shared.protocol.messages import StagedRow, Verdict
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams
from tests.services.verifier.stages.rings import Pipeline, pipeline, saved
from tests.services.verifier.tiny import VOCAB, configs, target
from tests.services.verifier.trees.scripted import ScriptedTreeDrafter

T = TypeVar("T")
PROMPTS = {f"s{i}": tuple(range(3 + i, 14 + 3 * i)) for i in range(8)}
EMITTED = 16


def sampling(session: str) -> SamplingParams:
    number = int(session[1:])
    return SamplingParams(seed=number, vocab=VOCAB, temperature=(0.0, 0.7, 1.0)[number % 3])


def spec(session: str) -> SessionSpec:
    return SessionSpec(
        session=session,
        gateway="g:1",
        prompt=PROMPTS[session],
        max_tokens=EMITTED,
        stop_ids=(),
        sampling=sampling(session),
        deadline_ms=60_000,
    )


@cache
def alone(name: str, session: str) -> tuple[int, ...]:
    """The text of the target with this configuration, one token a pass."""
    one, ids = target(configs()[name]), list(PROMPTS[session])
    assert one.admit(session, ids, [], len(ids) + EMITTED)
    fed = 0
    for _ in range(EMITTED):
        row = TargetRow(session, fed, tuple(ids[fed:]), len(ids) - fed, True, sampling(session))
        fed = len(ids)
        ids.append(one.forward([row])[0].tokens[0])
    return tuple(ids)


class Log:
    """Commits of a run, and when all sessions have ended. refuse: numbers of commits that are not taken."""

    def __init__(self, sessions: Sequence[str], refuse: Sequence[int] = ()) -> None:
        self.texts = {session: list(PROMPTS[session]) for session in sessions}
        self.over = asyncio.Event()
        self.commits = 0
        self._left = set(sessions)
        self._refuse = refuse

    async def commit(self, row: StagedRow, verdict: Verdict) -> bool:
        """Append a step, if it continues the text."""
        await asyncio.sleep(0)
        self.commits += 1
        if self.commits in self._refuse:
            return False
        text = self.texts[verdict.session]
        assert verdict.base_len == len(text)
        assert verdict.tokens
        text += verdict.tokens
        if verdict.finish:
            self._left.discard(verdict.session)
        if not self._left:
            self.over.set()
        return True


async def prefill(piped: Pipeline, session: str) -> VerifiedSession:
    """A session with all but its last token cached."""
    ids = PROMPTS[session]
    assert piped.target.admit(session, ids, [], len(ids))
    row = TargetRow(session, 0, ids[:-1], len(ids) - 1, False, sampling(session))
    await piped.forward([row])
    return VerifiedSession(spec(session), 1, list(ids), "", 1)


def staged(session: str) -> StagedRow:
    length = len(PROMPTS[session])
    return StagedRow(session, 1, 0, length, length, 0, "", "g:1", free=4, tree="core")


def engine_of(piped: Pipeline, drafter: TreeDrafter, log: Log, compute: Compute | None = None) -> TreeEngine:
    """An engine with pieces of five rows, three under way."""
    return TreeEngine(
        piped.target,
        piped.ring,
        compute or InlineCompute(),
        drafter,
        asyncio.Lock(),
        log.commit,
        lambda chances, _: min(5, len(chances)),
        PieceFlow(StageLaw(0.0, 0.0), 3),
    )


async def run(piped: Pipeline, drafter: TreeDrafter, sessions: Sequence[str], log: Log) -> None:
    """Run all sessions to their end."""
    engine = engine_of(piped, drafter, log)
    for session in sessions:
        engine.open(staged(session), await prefill(piped, session))
    running = asyncio.ensure_future(engine.run())
    over = asyncio.ensure_future(log.over.wait())
    async with asyncio.timeout(60):
        await asyncio.wait((running, over), return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    over.cancel()
    if running.done() and not running.cancelled():
        running.result()


@pytest.mark.parametrize("right", [1.0, 0.6, 0.0])
@pytest.mark.parametrize(
    ("name", "layers", "users"),
    [("llama", (4,), 1), ("gemma2", (1, 3), 4), ("qwen3, sliding", (1, 1, 1, 1), 3)],
)
async def test_the_text_is_the_targets_own(
    name: str, layers: tuple[int, ...], users: int, right: float, tmp_path: Path
) -> None:
    config, sessions = configs()[name], list(PROMPTS)[:users]
    texts = {session: alone(name, session) for session in sessions}
    async with pipeline(saved(config, tmp_path), config, layers, kv_tokens=2048) as piped:
        log, drafter = Log(sessions), ScriptedTreeDrafter(texts, VOCAB, right)
        await run(piped, drafter, sessions, log)
        assert {session: tuple(text) for session, text in log.texts.items()} == texts
        if right == 1.0:
            assert log.commits < users * EMITTED  # several tokens a step


@pytest.mark.slow
async def test_a_small_model_at_the_core_drafts(tmp_path: Path) -> None:
    config, sessions = configs()["llama"], list(PROMPTS)[:3]
    texts = {session: alone("llama", session) for session in sessions}
    async with pipeline(saved(config, tmp_path), config, (2, 2), kv_tokens=1024) as piped:
        log = Log(sessions)
        drafter = CoreTreeDrafter(target(config, kv_tokens=1024))  # as good as the target itself
        await run(piped, drafter, sessions, log)
        assert {session: tuple(text) for session, text in log.texts.items()} == texts
        assert log.commits < 3 * EMITTED * 0.7


async def test_a_session_is_given_back_in_the_middle_and_goes_on_as_rows(tmp_path: Path) -> None:
    config, session = configs()["llama"], "s1"
    text = alone("llama", session)
    async with pipeline(saved(config, tmp_path), config, (1, 2, 1)) as piped:
        log = Log([session])
        engine = engine_of(piped, ScriptedTreeDrafter({session: text}, VOCAB, 0.8), log)
        engine.open(staged(session), await prefill(piped, session))
        running = asyncio.ensure_future(engine.run())
        while log.commits < 4:
            await asyncio.sleep(0.001)
        await engine.close(session)
        ids = log.texts[session]
        assert tuple(ids) == text[: len(ids)]
        assert piped.target.cached(session) < len(ids)
        while len(ids) < len(text):  # late results of its pieces come back meanwhile
            start = piped.target.cached(session)
            assert piped.target.admit(session, ids, [session], len(ids))
            row = TargetRow(session, start, tuple(ids[start:]), len(ids) - start, True, sampling(session))
            ids += (await piped.forward([row]))[0].tokens
        assert tuple(ids) == text
        running.cancel()


class YieldingCompute(InlineCompute):
    """Lets others run before every call, as a thread does."""

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        await asyncio.sleep(0)
        return await super().run(fn, cost_s)


async def test_who_takes_a_session_back_finds_all_that_was_decided_in_the_log(tmp_path: Path) -> None:
    """Also when that happens between a decision and its commit."""
    config, session = configs()["llama"], "s1"
    text = alone("llama", session)
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        log = Log([session])
        engine = engine_of(piped, ScriptedTreeDrafter({session: text}, VOCAB, 0.8), log, YieldingCompute())
        engine.open(staged(session), await prefill(piped, session))
        running = asyncio.ensure_future(engine.run())
        tree = engine._open[session].tree
        while len(tree.ids) < len(PROMPTS[session]) + 6:
            await asyncio.sleep(0)
        assert len(log.texts[session]) < len(tree.ids)  # decided, and not committed yet
        await engine.close(session)
        assert log.texts[session] == tree.ids
        running.cancel()


async def test_a_step_that_is_not_committed_ends_its_tree_alone(tmp_path: Path) -> None:
    config, sessions = configs()["qwen2"], ["s0", "s1"]
    texts = {session: alone("qwen2", session) for session in sessions}
    async with pipeline(saved(config, tmp_path), config, (2, 2)) as piped:
        log = Log(sessions, refuse=[3])
        engine = engine_of(piped, ScriptedTreeDrafter(texts, VOCAB, 0.7), log)
        for session in sessions:
            engine.open(staged(session), await prefill(piped, session))
        running = asyncio.ensure_future(engine.run())
        async with asyncio.timeout(30):
            while all(len(log.texts[session]) < len(texts[session]) for session in sessions):
                await asyncio.sleep(0.001)
        assert sorted(len(log.texts[s]) == len(texts[s]) for s in sessions) == [False, True]
        for session in sessions:
            got = tuple(log.texts[session])
            assert got == texts[session][: len(got)]
        running.cancel()


async def test_sessions_without_room_are_dropped_and_the_others_go_on(tmp_path: Path) -> None:
    config, sessions = configs()["llama"], ["s0", "s1", "s2"]
    texts = {session: alone("llama", session) for session in sessions}
    async with pipeline(saved(config, tmp_path), config, (2, 2), kv_tokens=64) as piped:
        log = Log(["s0"])  # the oldest always makes progress
        engine = engine_of(piped, ScriptedTreeDrafter(texts, VOCAB, 0.5), log)
        log.texts = {session: list(PROMPTS[session]) for session in sessions}
        for session in sessions:
            engine.open(staged(session), await prefill(piped, session))
        running = asyncio.ensure_future(engine.run())
        async with asyncio.timeout(30):
            await log.over.wait()
        assert tuple(log.texts["s0"]) == texts["s0"]
        for session in sessions:
            got = tuple(log.texts[session])
            assert got == texts[session][: len(got)]
        running.cancel()
