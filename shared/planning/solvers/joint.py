"""Batches and lengths together: users in a good order, cut into batches by dynamic programming.

Given a cap on every loop and a price of a verify millisecond, a plan's worth is a sum over batches, so the best cuts
of an order are one pass of dynamic programming. Users lose least by sharing a batch with those who draft equally far
(rows are padded) and equally long (the last one's draft holds up the others), each as far as the cap affords, but no
token that earns less than its verification costs. All caps, orders and prices are computed in one sweep. More than
PIECES users are pooled into pieces that surely fit into memory, each as its members are on average.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays import Arrays, Floats, Ints
from shared.planning.solvers.caps import cap_range
from shared.planning.solvers.graphs import line
from shared.planning.solvers.options import Batches, Options, quick
from shared.planning.solvers.paths import Graph, best_paths

PIECES = 28
ROOM = 3  # pieces of a batch at least, where memory is short
FINE = 96  # caps of which the promising ones are found
PRICES = np.array([0.03, 0.3, 0.65, 1.0])  # of what a millisecond of the cycle is worth
ORDERS = (0.3, 1.0)  # prices at which users are ordered, likewise
Members = tuple[int, ...]


@dataclass(frozen=True)
class Partition:
    """Batches of users, the score that they had where they were found, and the cap there (ms)."""

    score: float
    cap_ms: float
    batches: tuple[Members, ...]


def partitions(arrays: Arrays, caps: Floats, score: float) -> Iterator[Partition]:
    """Promising ways to split users into batches, best first. caps: ms, to look at; score: some plan's, for prices."""
    tries = list(_tries(arrays, caps, score))
    count, longest = _pieces(arrays)
    pieces = [np.array_split(order, count) for _, order in tries]
    segments, graph = line(count, longest, arrays.bounds.min_batches, min(arrays.max_batches, count))
    pooled = arrays.pooled(np.concatenate([order for _, order in tries]), _starts(pieces))
    each = np.arange(len(tries))[:, None]
    members = (segments.members + each * count).ravel()
    starts = (segments.starts + each * len(segments.members)).ravel()
    try_caps = np.array([cap for cap, _ in tries])
    options = quick(Batches(pooled, members, starts), np.repeat(try_caps, len(segments.starts)))
    paths, scores = _paths(arrays, options, graph, try_caps, score)
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] == -np.inf:
            return
        which, path = index // len(PRICES), paths[index]
        groups = (np.concatenate([pieces[which][n] for n in segments[batch]]) for batch in path[path >= 0])
        batches = tuple(tuple(sorted(group.tolist())) for group in groups)
        yield Partition(float(scores[index]), float(try_caps[which]), batches)


def promising_caps(arrays: Arrays, score: float) -> tuple[float, float]:
    """Of all caps, those within which a plan might score this much: as if every user were verified alone, and free."""
    caps = np.geomspace(*cap_range(arrays), FINE)
    slack = caps - arrays.alone_ms[0][:, None]
    drafts = np.maximum(arrays.drafts(np.arange(len(arrays)), slack), arrays.bounds.min_draft)
    value = (np.take_along_axis(arrays.value, drafts, axis=1) * arrays.count[:, None]).sum(axis=0)
    likely = np.flatnonzero(arrays.objective.score(value, arrays.all_weight, caps) >= score)
    if len(likely) == 0:
        return float(caps[0]), float(caps[-1])
    return float(caps[likely[0]]), float(caps[min(likely[-1] + 1, FINE - 1)])


def _paths(arrays: Arrays, options: Options, graph: Graph, caps: Floats, score: float) -> tuple[Ints, Floats]:
    """The best path of every try at every price [tries · P, batches], and its score."""
    shape = (len(caps), -1, options.values.shape[1])
    values, verify = options.values.reshape(shape), options.verify_ms.reshape(shape)  # [tries, segments, K]
    price = np.array([arrays.objective.price(score, arrays.all_weight, float(cap)) for cap in caps])
    prices = price[:, None] * PRICES  # [tries, P]
    worth = values[:, None] - prices[:, :, None, None] * verify[:, None]  # [tries, P, segments, K]
    option = worth.argmax(axis=3)
    best = np.take_along_axis(worth, option[..., None], axis=3)[..., 0]
    paths = best_paths(graph, best.reshape(-1, best.shape[2]).T)
    which = np.repeat(np.arange(len(caps)), len(PRICES))[:, None]
    taken = np.take_along_axis(option.reshape(-1, option.shape[2]), np.maximum(paths, 0), axis=1)
    value = np.where(paths >= 0, values[which, paths, taken], 0.0).sum(axis=1)
    time = np.where(paths >= 0, verify[which, paths, taken], 0.0).sum(axis=1)
    cycle = np.maximum(caps[which[:, 0]], time)
    scores = np.asarray(arrays.objective.score(value, arrays.all_weight, cycle))
    return paths, np.where((paths >= 0).any(axis=1), scores, -np.inf)


def _tries(arrays: Arrays, caps: Floats, score: float) -> Iterator[tuple[float, Ints]]:
    """Caps, each with the orders that differ."""
    for cap in caps:
        price = arrays.objective.price(score, arrays.all_weight, float(cap))
        seen = set()
        for order in (order for share in ORDERS for order in _orders(arrays, float(cap), share * price)):
            if order.tobytes() not in seen:
                seen.add(order.tobytes())
                yield float(cap), order


def _orders(arrays: Arrays, cap: float, price: float) -> Iterator[Ints]:
    """Users by the draft they would send if alone within the cap, at this price; and by how long that takes them."""
    alone, longer = arrays.alone_ms
    afforded = (cap - alone - arrays.comm_ms) / arrays.draft_ms
    least, most = arrays.bounds.min_draft, arrays.bounds.max_draft
    gain = np.diff(arrays.value[:, least : most + 1], axis=1)
    wished = least + (gain > price * (longer - alone)[:, None]).sum(axis=1)
    length = np.maximum(np.minimum(np.floor(afforded), wished), least)
    ready = length * arrays.draft_ms + arrays.comm_ms
    if not arrays.packed:
        yield np.lexsort((ready, arrays.prefix, length))
    yield np.lexsort((arrays.prefix, ready))


def _pieces(arrays: Arrays) -> tuple[int, int]:
    """Into how many pieces users are pooled, and how many of these a batch can have.

    A batch of the longest prefixes has room for some pieces still.
    """
    users = len(arrays)
    size = np.arange(1.0, users + 1)
    surely, perhaps = (
        int((np.asarray(arrays.server.room_bytes(size, p, size * p)) <= arrays.server.memory_bytes).sum())
        for p in (arrays.prefix.max(), arrays.prefix.min())
    )
    each = max(1, min(-(-users // PIECES), surely // ROOM, users // arrays.bounds.min_batches))
    count = -(-users // each)
    return count, min(count, perhaps // each + 1)


def _starts(pieces: list[list[Ints]]) -> Ints:
    sizes = np.array([len(piece) for each in pieces for piece in each])
    return np.asarray(np.cumsum(sizes) - sizes)
