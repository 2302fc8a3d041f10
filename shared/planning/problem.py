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
from typing import Protocol


@dataclass(frozen=True, slots=True)
class User:
    """One user. alpha: chance that a drafted token is accepted; comm_ms: verdict there and draft back, together."""

    id: str
    alpha: float
    prefix: int
    draft_ms: float  # per token
    comm_ms: float = 0.0
    weight: float = 1.0

    def emitted(self, length: int) -> float:
        """Expected tokens of a round with a draft of this length."""
        return float(length + 1) if self.alpha == 1.0 else (1 - self.alpha ** (length + 1)) / (1 - self.alpha)

    def ready_ms(self, length: int) -> float:
        """From its verdict to its draft's arrival."""
        return length * self.draft_ms + self.comm_ms


@dataclass(frozen=True, slots=True)
class Shape:
    """What a batch is to the server. longest: of the drafts, 0 = nobody drafts; drafted: tokens of all of them."""

    users: int
    longest: int
    drafted: int
    prefix: int  # the longest
    prefixes: int  # of all of them


class Server(Protocol):
    """A verifier: the time and the room that a batch takes."""

    def verify_ms(self, shape: Shape) -> float:
        """Milliseconds of verifying one batch."""
        ...

    def fits(self, users: int, prefix: int, prefixes: int) -> bool:
        """Whether the memory holds a batch. prefix: the longest; prefixes: the sum."""
        ...


@dataclass(frozen=True, slots=True)
class PaddedServer:
    """The paper's law: every row padded to the longest, c · b · F(L, I) + beta.

    F(L, I) = 4·J·h1·L·(2·h1 + I + L + h2) operations a row: J layers, h1 hidden and h2 feed-forward size, I the
    longest prefix, L the longest draft, at least 1. Memory: J·(8·h1² + 4·h1·h2) + 4·J·h1·b·I bytes.
    """

    layers: int
    hidden: int
    ffn: int
    c: float  # ms per operation
    beta_ms: float
    memory_bytes: float = inf

    def verify_ms(self, shape: Shape) -> float:
        """See Server."""
        long = max(1, shape.longest)
        operations = 4 * self.layers * self.hidden * long * (2 * self.hidden + shape.prefix + long + self.ffn)
        return self.c * shape.users * operations + self.beta_ms

    def fits(self, users: int, prefix: int, prefixes: int) -> bool:
        """See Server."""
        weights = self.layers * (8 * self.hidden**2 + 4 * self.hidden * self.ffn)
        return weights + 4 * self.layers * self.hidden * users * prefix <= self.memory_bytes


@dataclass(frozen=True, slots=True)
class PackedServer:
    """Ours: a row costs what it is, beta + per_token · Σ (l + 1) + per_context · Σ prefix; so does its memory."""

    beta_ms: float
    per_token_ms: float
    per_context_ms: float = 0.0
    memory_bytes: float = inf
    kv_bytes_per_token: float = 0.0

    def verify_ms(self, shape: Shape) -> float:
        """See Server."""
        verified = shape.users + shape.drafted
        return self.beta_ms + self.per_token_ms * verified + self.per_context_ms * shape.prefixes

    def fits(self, users: int, prefix: int, prefixes: int) -> bool:
        """See Server."""
        return self.kv_bytes_per_token * prefixes <= self.memory_bytes


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


def shape_of(users: Sequence[User], lengths: Sequence[int]) -> Shape:
    """The shape of one batch of these users with these draft lengths."""
    prefixes = [user.prefix for user in users]
    return Shape(len(users), max(lengths), sum(lengths), max(prefixes), sum(prefixes))


def cycle_ms(problem: Problem, split: Split) -> float:
    """S: milliseconds from one visit of a batch to the next."""
    total, slowest = 0.0, 0.0
    for batch in split.batches:
        users = [problem.users[m] for m in batch]
        lengths = [split.lengths[m] for m in batch]
        verify = problem.server.verify_ms(shape_of(users, lengths))
        ready = max(user.ready_ms(length) for user, length in zip(users, lengths, strict=True))
        total += verify
        slowest = max(slowest, ready + verify)
    return max(total, slowest)


def expected_tokens(problem: Problem, split: Split) -> float:
    """U: tokens that all users emit in a cycle."""
    return sum(user.emitted(length) for user, length in zip(problem.users, split.lengths, strict=True))
