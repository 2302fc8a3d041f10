"""Seeded random problems for measuring planners: heterogeneous users, servers from all overhead to all compute."""

from dataclasses import replace

import numpy as np

from shared.planning import paper_setting
from shared.planning.cost import Packed, Padded
from shared.planning.problem import LengthBounds, PackedServer, PaddedServer, Problem, Server, User

MEMORY_TOKENS = 49 * paper_setting.PREFIX  # cached tokens that fit into the memory of the paper's server
LAWS = ("padded", "packed")


def heterogeneous(seed: int, users: int, *, law: str, max_draft: int = 20, min_draft: int = 1) -> Problem:
    """Users who all differ: speeds × 1 to 6, α .5 to .95, links 3 to 80 ms, three prefixes, three weights.

    The server is the paper's, with one of three β and one of three costs of an operation or a token.
    """
    draw = np.random.default_rng(seed)
    return Problem(_users(draw, users), _server(draw, law), LengthBounds(max_draft, min_draft))


def of_classes(seed: int, users: int, classes: int, *, law: str) -> Problem:
    """Users of a few classes; the users of a class are equal."""
    draw = np.random.default_rng(seed)
    prototypes = _users(draw, classes)
    everyone = tuple(
        User(
            f"u{m}",
            prototype.alpha,
            prototype.prefix,
            prototype.draft_ms,
            prototype.comm_ms,
            prototype.weight,
        )
        for m, prototype in ((m, prototypes[m % classes]) for m in range(users))
    )
    return Problem(everyone, _server(draw, law))


def memory_bound(seed: int, users: int, classes: int | None = None, *, law: str = "padded") -> Problem:
    """Users on a server whose memory requires many batches: the paper's, where 49 users of prefix 512 fit into one.

    classes: of equal users; None = all users differ. law packed: our server, with memory for as many cached tokens.
    """
    draw = np.random.default_rng(seed)
    prototypes = _users(draw, classes or users)
    everyone = tuple(replace(prototypes[m % len(prototypes)], id=f"u{m}") for m in range(users))
    if law == "padded":
        return Problem(everyone, PaddedServer(paper_setting.SERVER, paper_setting.MEMORY_BYTES))
    return Problem(everyone, PackedServer(Packed(95.1074, 0.6), MEMORY_TOKENS * 1e5, 1e5))


def _users(draw: np.random.Generator, count: int) -> tuple[User, ...]:
    speed = paper_setting.draft_ms() * draw.uniform(1, 6, count) / draw.choice([1.0, 3.0], count)
    alpha, comm = draw.uniform(0.5, 0.95, count), draw.uniform(3, 80, count)
    prefix, weight = draw.choice([128, 512, 1024], count), draw.choice([0.5, 1.0, 2.0], count)
    return tuple(
        User(f"u{m}", float(alpha[m]), int(prefix[m]), float(speed[m]), float(comm[m]), float(weight[m]))
        for m in range(count)
    )


def _server(draw: np.random.Generator, law: str) -> Server:
    beta = float(draw.choice([95.1074, 40.0, 10.0]))
    if law == "padded":
        scale, paper = float(draw.choice([1, 10, 40])), paper_setting.SERVER
        return PaddedServer(
            Padded(beta, scale * paper.ms_per_operation, paper.layers, paper.hidden, paper.feed_forward),
            paper_setting.MEMORY_BYTES,
        )
    per_token, per_context = float(draw.choice([0.5, 3.0, 10.0])), float(draw.choice([0.0, 0.002]))
    return PackedServer(Packed(beta, per_token, per_context), 1e11, 1e5)
