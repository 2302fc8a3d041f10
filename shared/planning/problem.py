"""The planning problem: users, a server, bounds; and the cycle time of a plan (DiP-SD's model).

Times are in milliseconds. Users are split into batches, which are verified in a fixed cycle. While one batch is
verified, the others draft. A user with draft length l emits u(l) = (1 - α^(l+1)) / (1 - α) tokens a cycle, the bonus
token included. Batch n is ready t_d(n) after its last verdicts and takes t_v(n) to verify. The cycle takes

    S = max( Σ t_v(n), max_n (t_d(n) + t_v(n)) )

This is exact. The schedule is an event graph, and its only circuits are the ring of verifications and each batch's
own loop. The order of batches does not matter.
Source: Xu, Zhou, Niu, "DiP-SD", arXiv 2604.20919, system model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

import numpy as np

from shared.planning.cost import Packed, Padded, Real, Shape

MAX_PROMPT_SHARE: Final = 0.8  # of the verifier's time; above that no plan helps


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    alpha: probability that a drafted token is accepted, in [0, 1). prefix: cached tokens. draft_ms: drafting of one
    token. comm_ms: both directions of the link together, once a round. weight: in the weighted and fair objectives.
    """

    id: str
    alpha: float
    prefix: int
    draft_ms: float
    comm_ms: float = 0.0
    weight: float = 1.0

    def emitted(self, length: int) -> float:
        """u(l): expected tokens of a round with a draft of this length, the bonus token included."""
        return (1 - self.alpha ** (length + 1)) / (1 - self.alpha)

    def ready_ms(self, length: int) -> float:
        """Milliseconds from a verdict to the arrival of the next draft of this length."""
        return length * self.draft_ms + self.comm_ms


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of new users, which the verifier reads while it serves.

    per_ms: prompts that arrive per millisecond. each_ms: verifier time of one prompt.
    """

    per_ms: float = 0.0
    each_ms: float = 0.0

    @property
    def share(self) -> float:
        """The share of the verifier's time that prompts take, at most MAX_PROMPT_SHARE."""
        return min(self.per_ms * self.each_ms, MAX_PROMPT_SHARE)


class Server(Protocol):
    """A verifier: the time and the memory that a batch takes. Arguments are numbers, or arrays of many batches."""

    def verify_ms(self, users: Real, longest: Real, drafted: Real, prefix: Real, prefixes: Real) -> Real:
        """t_v: milliseconds to verify a batch.

        users: rows. longest: tokens of the longest draft. drafted: tokens of all drafts. prefix: the longest prefix.
        prefixes: the sum of all prefixes.
        """
        ...

    def needed_bytes(self, users: Real, prefix: Real, prefixes: Real) -> Real:
        """Bytes that verifying a batch needs; the arguments are those of verify_ms."""
        ...

    @property
    def memory_bytes(self) -> float:
        """Bytes of memory that the server has."""
        ...

    @property
    def arrival_ms(self) -> float:
        """Milliseconds that a draft adds to the pass during which it arrives.

        It is above zero where messages and passes share processors.
        """
        ...

    @property
    def prompts(self) -> Prompts:
        """Prompts that the server reads while it serves."""
        ...


@dataclass(frozen=True, slots=True)
class PaddedServer:
    """The paper's server: rows are padded to the longest draft (at least one token) and to the longest prefix."""

    law: Padded
    memory_bytes: float = inf
    arrival_ms: float = 0.0
    prompts: Prompts = Prompts()

    def verify_ms(self, users: Real, longest: Real, drafted: Real, prefix: Real, prefixes: Real) -> Real:
        """t_v of DiP-SD: c·b·F_v(L, I) + β, in ms, for numbers or arrays."""
        long = np.maximum(1, longest)
        return self.law.pass_ms(Shape(users, users * long, long, prefixes, prefix))

    def needed_bytes(self, users: Real, prefix: Real, prefixes: Real) -> Real:
        """J·(8·h1² + 4·h1·h2) + 4·J·h1·b·I bytes: weights, then keys and values (memory constraint, DiP-SD)."""
        layers, hidden, ffn = self.law.layers, self.law.hidden, self.law.feed_forward
        return layers * (8 * hidden**2 + 4 * hidden * ffn) + 4 * layers * hidden * users * prefix


@dataclass(frozen=True, slots=True)
class PackedServer:
    """Our server: a row costs its own drafted tokens and one more; its memory is its own prefix."""

    law: Packed
    memory_bytes: float = inf
    kv_bytes_per_token: float = 0.0
    arrival_ms: float = 0.0
    prompts: Prompts = Prompts()

    def verify_ms(self, users: Real, longest: Real, drafted: Real, prefix: Real, prefixes: Real) -> Real:
        """β + per_token·Σ(l + 1) + per_context·Σ prefix, in ms, for numbers or arrays."""
        return self.law.pass_ms(Shape(users, users + drafted, longest + 1, prefixes, prefix))

    def needed_bytes(self, users: Real, prefix: Real, prefixes: Real) -> Real:
        """Bytes of the keys and values of all prefixes."""
        return self.kv_bytes_per_token * prefixes


@dataclass(frozen=True, slots=True)
class LengthBounds:
    """Bounds of a plan: draft lengths and the number of batches. max_batches None: as many as users."""

    max_draft: int = 20
    min_draft: int = 1
    min_batches: int = 1
    max_batches: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Users, a server and bounds."""

    users: tuple[User, ...]
    server: Server
    bounds: LengthBounds = LengthBounds()


@dataclass(frozen=True, slots=True)
class Split:
    """Batches of user indices, in cycle order, and the draft length of each user, in the order of the users."""

    batches: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]


def verify_ms(server: Server, users: Sequence[User], lengths: Sequence[int]) -> float:
    """t_v: milliseconds to verify one batch of these users with these draft lengths. There must be a user."""
    prefixes = [user.prefix for user in users]
    return float(server.verify_ms(len(users), max(lengths), sum(lengths), max(prefixes), sum(prefixes)))


def cycle_ms(problem: Problem, split: Split) -> float:
    """S: milliseconds from one verification of a batch to its next (cycle time, DiP-SD)."""
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
    """U: expected tokens that all users emit in a cycle."""
    return sum(user.emitted(length) for user, length in zip(problem.users, split.lengths, strict=True))
