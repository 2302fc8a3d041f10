"""What a planner decides on: users, a server, and what a plan of theirs is worth (DiP-SD's model).

Times in milliseconds. Users are split into batches that are verified in a fixed cycle; while one is verified the
others draft. A user with draft length l emits u(l) = (1 - α^(l+1)) / (1 - α) tokens a cycle, the bonus included.
Batch n is ready t_d(n) after its last verdicts, and verified in t_v(n). The cycle takes

    S = max( Σ t_v(n), max_n (t_d(n) + t_v(n)) )

exactly: the schedule is an event graph whose only circuits are the ring of verifications and each batch's own loop.
Source: Xu, Zhou, Niu, "DiP-SD", arXiv 2604.20919; the order of batches does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

import numpy as np

from shared.planning.cost import Packed, Padded, Real, Shape

MAX_PROMPT_SHARE: Final = 0.8  # of a verifier's time; with more than that no plan is of use


@dataclass(frozen=True, slots=True)
class User:
    """One user. alpha: chance in [0, 1) that a drafted token is accepted; comm_ms: both ways of a round together."""

    id: str
    alpha: float
    prefix: int
    draft_ms: float  # per token
    comm_ms: float = 0.0
    weight: float = 1.0

    def emitted(self, length: int) -> float:
        """Expected tokens of a round with a draft of this length."""
        return (1 - self.alpha ** (length + 1)) / (1 - self.alpha)

    def ready_ms(self, length: int) -> float:
        """From its verdict to its draft's arrival."""
        return length * self.draft_ms + self.comm_ms


@dataclass(frozen=True, slots=True)
class Prompts:
    """New users' prompts, which a verifier reads while it serves: per_ms come a millisecond, each takes it each_ms."""

    per_ms: float = 0.0
    each_ms: float = 0.0

    @property
    def share(self) -> float:
        """Of the verifier's time."""
        return min(self.per_ms * self.each_ms, MAX_PROMPT_SHARE)


class Server(Protocol):
    """A verifier: the time and the room that a batch takes. Numbers, or arrays of many batches."""

    def verify_ms(self, users: Real, longest: Real, drafted: Real, prefix: Real, prefixes: Real) -> Real:
        """Milliseconds. longest: draft; drafted: tokens of all drafts; prefix: the longest; prefixes: their sum."""
        ...

    def needed_bytes(self, users: Real, prefix: Real, prefixes: Real) -> Real:
        """Memory that verifying the batch needs."""
        ...

    @property
    def memory_bytes(self) -> float:
        """Memory that there is."""
        ...

    @property
    def arrival_ms(self) -> float:
        """What a draft that arrives during a pass adds to it: where messages and passes share processors."""
        ...

    @property
    def prompts(self) -> Prompts:
        """What it reads of new users meanwhile."""
        ...


@dataclass(frozen=True, slots=True)
class PaddedServer:
    """The paper's: rows padded to the longest draft (at least one token) and to the longest prefix."""

    law: Padded
    memory_bytes: float = inf
    arrival_ms: float = 0.0
    prompts: Prompts = Prompts()

    def verify_ms(self, users: Real, longest: Real, drafted: Real, prefix: Real, prefixes: Real) -> Real:
        """See Server."""
        long = np.maximum(1, longest)
        return self.law.pass_ms(Shape(users, users * long, long, prefixes, prefix))

    def needed_bytes(self, users: Real, prefix: Real, prefixes: Real) -> Real:
        """J·(8·h1² + 4·h1·h2) + 4·J·h1·b·I: weights, and keys and values."""
        layers, hidden, ffn = self.law.layers, self.law.hidden, self.law.feed_forward
        return layers * (8 * hidden**2 + 4 * hidden * ffn) + 4 * layers * hidden * users * prefix


@dataclass(frozen=True, slots=True)
class PackedServer:
    """Ours: a row costs what it is, draft and one token more; so does its memory."""

    law: Packed
    memory_bytes: float = inf
    kv_bytes_per_token: float = 0.0
    arrival_ms: float = 0.0
    prompts: Prompts = Prompts()

    def verify_ms(self, users: Real, longest: Real, drafted: Real, prefix: Real, prefixes: Real) -> Real:
        """See Server."""
        return self.law.pass_ms(Shape(users, users + drafted, longest + 1, prefixes, prefix))

    def needed_bytes(self, users: Real, prefix: Real, prefixes: Real) -> Real:
        """Keys and values of the prefixes."""
        return self.kv_bytes_per_token * prefixes


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a plan may be. max_batches None: as many as users."""

    max_draft: int = 20
    min_draft: int = 1
    min_batches: int = 1
    max_batches: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Users, a server and bounds."""

    users: tuple[User, ...]
    server: Server
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True)
class Split:
    """A plan: batches of users (by index, in cycle order) and everybody's draft length, as the users are ordered."""

    batches: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]


def verify_ms(server: Server, users: Sequence[User], lengths: Sequence[int]) -> float:
    """t_v of one batch of these users with these draft lengths."""
    prefixes = [user.prefix for user in users]
    return float(server.verify_ms(len(users), max(lengths), sum(lengths), max(prefixes), sum(prefixes)))


def cycle_ms(problem: Problem, split: Split) -> float:
    """S: milliseconds from one visit of a batch to the next."""
    total, slowest = 0.0, 0.0
    for batch in split.batches:
        users = [problem.users[m] for m in batch]
        lengths = [split.lengths[m] for m in batch]
        verify = verify_ms(problem.server, users, lengths)
        ready = max(user.ready_ms(length) for user, length in zip(users, lengths, strict=True))
        total += verify
        slowest = max(slowest, ready + verify)
    return max(total, slowest)


def expected_tokens(problem: Problem, split: Split) -> float:
    """U: tokens that all users emit in a cycle."""
    return sum(user.emitted(length) for user, length in zip(problem.users, split.lengths, strict=True))
