"""One run of a method over a modelled pipeline, on virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.acceptance import ModelledText, mixed
from simulator.pipeline.context import Context
from simulator.pipeline.lock_step_ring import LockStepRing
from simulator.pipeline.modelled_ring import ModelledRing
from simulator.pipeline.rank_zero import RankZero
from simulator.pipeline.session import Session
from simulator.pipeline.timeline import Timeline
from simulator.run import gc_rarely
from simulator.virtual_loop import run_virtual

CUT: Final = 0.1  # of the tokens, at the start, are not measured
BLOCKS: Final = 10  # parts of a run, for its interval


class WrongText(AssertionError):
    """A method emitted something else than the target's own tokens."""


class Method(Protocol):
    """A way of decoding, with its settings."""

    async def run(self, context: Context) -> None:
        """Decode until `context.done()`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run measured. seconds: virtual, in which `tokens` were emitted; blocks: (tokens, seconds) of its parts.

    idle: share of the time in which a stage computes nothing.
    """

    tokens: int
    seconds: float
    blocks: tuple[tuple[int, float], ...]
    messages_per_token: float
    bytes_per_token: float
    idle: float
    timeline: Timeline

    @property
    def tokens_per_s(self) -> float:
        """Of all users together."""
        return self.tokens / self.seconds


def run_method(method: Method, law: PipelineLaw, p1: float, users: int, tokens: int, seed: int) -> Outcome:
    """Decode until `tokens` were emitted for all users together. Raises WrongText."""
    with gc_rarely():
        context = run_virtual(_decode(method, law, texts(p1, users, seed), tokens))
    return outcome(method, context)


def texts(p1: float, users: int, seed: int) -> list[ModelledText]:
    """The users' texts, which depend on the seed alone."""
    return [ModelledText(mixed(seed * 1_000_003 + user), p1) for user in range(users)]


def sessions_of(of: Sequence[ModelledText]) -> list[Session]:
    """The users at the beginning of their texts."""
    return [Session(user, text) for user, text in enumerate(of)]


async def _decode(method: Method, law: PipelineLaw, of: Sequence[ModelledText], tokens: int) -> Context:
    timeline, sessions = Timeline(len(law.stages)), sessions_of(of)
    async with ModelledRing(law, timeline) as ring:
        turns = LockStepRing(law, timeline)
        context = Context(law, ring, turns, RankZero(law, timeline), sessions, timeline, tokens)
        await method.run(context)
    return context


def outcome(method: Method, context: Context) -> Outcome:
    """Measure what a run emitted after the first tenth. Raises WrongText."""
    for session in context.sessions:
        if session.emitted != session.text.sequential(len(session.emitted)):
            raise WrongText(f"{method}: user {session.user}'s text is not the target's own")
    emissions, cut = context.emissions, CUT * context.ends_at
    measured = [at for at, (_, tokens) in enumerate(emissions) if tokens >= cut]
    first, last = measured[0], len(emissions) - 1
    marks = [first + (last - first) * block // BLOCKS for block in range(BLOCKS + 1)]
    ends = [emissions[at] for at in dict.fromkeys(marks)]
    blocks = tuple((b[1] - a[1], b[0] - a[0]) for a, b in pairwise(ends))
    (begin, before), (end, total) = emissions[first], emissions[last]
    line = context.timeline
    return Outcome(
        total - before,
        end - begin,
        blocks,
        line.messages / total,
        line.bytes / total,
        line.idle(begin, end),
        line,
    )


def settings_of(method: Any) -> dict[str, Any]:
    """A method's settings by name."""
    return {name: getattr(method, name) for name in method.__dataclass_fields__}
