"""The bookkeeping of draft trees, against a plain model of a cache: each sequence holds the path that it should."""

import random
from collections.abc import Sequence

import pytest

from services.draft_worker.kv import PREFILL_ALONE, PREFILL_WITH_DRAFTS, SHORT, Change, Copy
from services.draft_worker.tree_book import Piece, TreeBook, TreeLimits
from shared.compute.draft_tree import DraftTree
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest
from shared.speculative.candidates import Candidate
from shared.speculative.params import SamplingParams

SAMPLING = SamplingParams(1, 1000)


class World:
    """A book and the cache that its operations are done on: the tokens of each sequence."""

    def __init__(self, limits: TreeLimits, context: int = 10_000) -> None:
        self.book = TreeBook(limits, context)
        self.cache: dict[int, list[int]] = {n: [] for n in range(limits.sequences)}
        self.decoded = 0  # tokens
        self.limits = limits

    def change(self, changes: Sequence[Change]) -> None:
        for one in changes:
            if isinstance(one, Copy):
                assert self.cache[one.to] == [], "a copy goes to an empty sequence"
                self.cache[one.to] = self.cache[one.sequence][: one.length]
                assert len(self.cache[one.to]) == one.length
            else:
                del self.cache[one.sequence][one.keep :]

    def grow(self, *requests: GrowRequest, fail: bool = False) -> dict[str, list[Expansion]]:
        level = self.book.plan(requests)
        self.change(level.changes)
        expansions: dict[str, list[Expansion]] = {request.session: [] for request in requests}
        for piece in level.pieces:
            self._decode(piece)
        for piece in level.pieces:
            if fail:
                self.change(self.book.undo(piece))
            elif (expansion := self.book.take(piece, self._candidates(piece))) is not None:
                expansions[piece.request.session].append(expansion)
        self.check()
        return expansions

    def _decode(self, piece: Piece) -> None:
        held = self.cache[piece.sequence]
        assert len(held) == piece.start, "llama.cpp refuses gaps and repeated positions"
        held.extend(piece.tokens)
        self.decoded += len(piece.tokens)

    def _candidates(self, piece: Piece) -> tuple[Candidate, ...]:
        if piece.node is None:
            return ()
        after = sum(self.cache[piece.sequence]) % 900
        return tuple(Candidate(after + n, -1.0 - n) for n in range(piece.request.width))

    def check(self) -> None:
        used: set[int] = {sequence for sequence, _ in self.book.kept}
        for sequence, tokens in self.book.kept:
            assert self.cache[sequence] == tokens
        for track in self.book.tracks.values():
            assert not used & track.ends.keys()
            used |= track.ends.keys()
            for sequence, end in track.ends.items():
                path = track.ids[: track.held] + (track.tree.path(end) if end != ROOT else [])
                assert self.cache[sequence] == path
            for node, sequence in track.fed.items():
                path = [*track.ids, *track.tree.path(node)]
                assert self.cache[sequence][: len(path)] == path
            assert (track.held == len(track.ids)) == track.tree.expanded(ROOT)
        free = set(self.cache) - used
        assert set(self.book._free) == free
        assert len(self.book._free) == len(free)
        assert all(not self.cache[sequence] for sequence in free)
        cells = sum(track.held + len(track.fed) for track in self.book.tracks.values())
        assert cells + sum(len(tokens) for _, tokens in self.book.kept) <= self.limits.kv_tokens

    def advance(self, session: str, ids: Sequence[int]) -> None:
        self.change(self.book.advance(session, ids))
        self.check()

    def close(self, session: str) -> None:
        self.change(self.book.close(session))
        self.check()


def request(session: str, ids: Sequence[int], *nodes: int, width: int = 3) -> GrowRequest:
    return GrowRequest(session, tuple(ids), SAMPLING, nodes, width)


def test_a_level_continues_one_sequence_and_copies_for_siblings() -> None:
    world, ids = World(TreeLimits()), [1, 2, 3]
    world.grow(request("a", ids, ROOT))
    world.grow(request("a", ids, 0, 2, 1))
    track = world.book.tracks["a"]
    assert len(track.ends) == 3
    world.grow(request("a", ids, 3, 9))
    assert len(track.ends) == 3  # each continues the sequence of its parent
    assert (track.cells, world.decoded) == (3 + 5, 3 + 5)


def test_a_verdict_frees_the_sequences_beside_it_and_decodes_nothing_again() -> None:
    world, ids = World(TreeLimits()), [1, 2, 3]
    world.grow(request("a", ids, ROOT))
    world.grow(request("a", ids, 0, 1, 2))
    world.grow(request("a", ids, 6, 7, 3))
    track = world.book.tracks["a"]
    committed = [*ids, track.tree.nodes[1].token]
    world.advance("a", committed)
    assert (len(track.ends), track.held, track.cells) == (2, 4, 6)
    decoded = world.decoded
    assert world.grow(request("a", committed, ROOT, 6, 1, 0)) == {"a": []}
    assert world.decoded == decoded
    world.grow(request("a", committed, 8))
    assert world.decoded == decoded + 1


@pytest.mark.parametrize(("tail", "fed_again"), [([999], 1), ([0, 999], 1), ([1, 999], 1), ([2, 5, 999], 2)])
def test_a_verdict_beside_the_tree_keeps_the_cells_of_its_path(tail: list[int], fed_again: int) -> None:
    """Numbers below 9 stand for that node's token. Node 5 is on the path in the last case, but was not expanded."""
    world, ids = World(TreeLimits()), [1, 2, 3]
    world.grow(request("a", ids, ROOT))
    world.grow(request("a", ids, 0, 1))
    world.grow(request("a", ids, 3))
    tree = world.book.tracks["a"].tree
    committed = [*ids, *(tree.nodes[one].token if one < 9 else one for one in tail)]
    decoded = world.decoded
    world.grow(request("a", committed, ROOT))
    assert world.decoded == decoded + fed_again + (tail[0] == 2)
    assert len(world.book.tracks["a"].ends) == 1


def test_prompts_are_fed_in_pieces_beside_trees() -> None:
    world, long = World(TreeLimits()), list(range(1, 201))
    world.grow(request("a", long, ROOT))
    assert world.decoded == PREFILL_ALONE
    world.grow(request("a", long, ROOT), request("b", [5], ROOT))
    assert world.decoded == PREFILL_ALONE + 1 + PREFILL_WITH_DRAFTS
    world.grow(request("c", long[100:], ROOT), request("a", long))
    assert world.decoded == 2 * PREFILL_ALONE + 1 + PREFILL_WITH_DRAFTS  # one at a time
    while world.book.tracks["a"].missing > SHORT:
        assert world.grow(request("a", long, ROOT)) == {"a": []}
    assert len(world.grow(request("a", long, ROOT))["a"]) == 1


def test_a_failed_decode_leaves_no_trace() -> None:
    world, ids = World(TreeLimits()), [1, 2, 3]
    world.grow(request("a", ids, ROOT), fail=True)
    world.grow(request("a", ids, ROOT))
    world.grow(request("a", ids, 0, 1, 2), fail=True)
    assert len(world.book.tracks["a"].ends) == 1
    assert [one.node for one in world.grow(request("a", ids, 0, 1, 2))["a"]] == [0, 1, 2]


def test_bounds_are_shared_in_turns() -> None:
    world = World(TreeLimits(sessions=2, sequences=8, nodes=4))
    a, b = [1, 2], [7, 8]
    world.grow(request("a", a, ROOT), request("b", b, ROOT))
    expansions = world.grow(request("a", a, 0, 1, 2), request("b", b, 0, 1, 2))
    assert [[one.node for one in found] for found in expansions.values()] == [[0, 1], [0, 1]]
    wide = World(TreeLimits(sessions=1, sequences=2, nodes=4))
    wide.grow(request("a", a, ROOT))
    assert [one.node for one in wide.grow(request("a", a, 0, 1, 2))["a"]] == [0, 1]


def test_committed_tokens_come_before_candidates() -> None:
    """Cells run out: a tree does not take the last ones, and yields to its session's own tokens."""
    world = World(TreeLimits(sessions=1, kv_tokens=12, sequences=8))
    ids = [1, 2, 3, 4]
    world.grow(request("a", ids, ROOT))
    for _ in range(6):
        world.grow(request("a", ids, *world.book.tracks["a"].tree.frontier(4)))
    track = world.book.tracks["a"]
    assert track.cells == 11
    node = track.tree.children(ROOT)[0]
    longer = [*ids, node.token, *range(900, 906)]
    world.grow(request("a", longer, ROOT))
    assert (len(track.ids), track.held, track.fed) == (11, 11, {})
    level = world.book.plan([request("a", [*longer, 1, 2], ROOT)])
    assert level.errors == {"a": "13 tokens; a session may have 12"}


def test_random_lives() -> None:
    """A thousand levels, verdicts, failures, rollbacks and changes of sessions; `World` checks every step."""
    for seed in range(12):
        rng = random.Random(seed)
        limits = TreeLimits(3, rng.choice([60, 400]), rng.choice([3, 6, 30]), rng.choice([2, 16]))
        world = World(limits)
        texts = {name: [rng.randrange(3) for _ in range(rng.randrange(1, 40))] for name in "abcd"}
        for _ in range(90):
            name = rng.choice("abcd")
            track = world.book.tracks.get(name)
            if track is not None and rng.random() < 0.6:
                texts[name] = verdict(texts[name], track.tree, rng)
                if rng.random() < 0.5:
                    world.advance(name, texts[name])
            if rng.random() < 0.08:
                world.close(name)
                texts[name] = texts[rng.choice("abcd")][: rng.randrange(1, 40)]
            chosen = rng.sample("abcd", rng.randrange(1, 4))
            world.grow(
                *(request(one, texts[one], *nodes_of(world, one, rng)) for one in chosen),
                fail=rng.random() < 0.1,
            )


def nodes_of(world: World, name: str, rng: random.Random) -> list[int]:
    track = world.book.tracks.get(name)
    nodes = track.tree.frontier(5) if track else [ROOT]
    return [*nodes, rng.randrange(-1, 30)]


def verdict(ids: list[int], tree: DraftTree, rng: random.Random) -> list[int]:
    """Committed tokens after a round: a path of the tree, with or without another token; now and then a rollback."""
    if rng.random() < 0.1 or len(ids) > 45:
        return ids[: rng.randrange(1, len(ids) + 1)]
    path = tree.path(rng.choice(sorted(tree.nodes))) if tree.nodes else []
    return [*ids, *path, *([rng.randrange(3)] if rng.random() < 0.5 else [])]
