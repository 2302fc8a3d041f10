"""The modelled tree drafter: its candidates are right as often as set, and its trees behave as the protocol says."""

import random
from math import exp

import pytest

from shared.compute.draft_tree import DraftTree
from shared.compute.modelled import (
    Chain,
    choose,
    expected_text,
    extend,
    guesses_right,
    right_rank,
    spread_chances,
)
from shared.compute.modelled_tree_drafter import NODES, ModelledTreeDrafter
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest
from shared.speculative.noise import mix
from shared.speculative.params import SamplingParams

PROMPT = tuple(range(1, 20))
SAMPLING = SamplingParams(seed=7, vocab=1000)


def request(session: str, ids: tuple[int, ...], *nodes: int, width: int = 3) -> GrowRequest:
    return GrowRequest(session, ids, SAMPLING, nodes, width)


def expand(drafter: ModelledTreeDrafter, ids: tuple[int, ...], *nodes: int) -> tuple[Expansion, ...]:
    (growth,) = drafter.grow([request("s", ids, *nodes)])
    assert growth.error == ""
    return growth.expansions


def test_each_rank_is_right_as_often_as_set_and_says_so() -> None:
    chances, n = (0.6, 0.2, 0.1), 4000
    hits = [0.0] * 4
    for position in range(n):
        hits[right_rank(7, position, chances)] += 1 / n
    assert hits == pytest.approx([0.6, 0.2, 0.1, 0.1], abs=0.03)
    assert all((right_rank(7, p, chances) == 0) == guesses_right(7, p, 0.6) for p in range(n))
    drafter = ModelledTreeDrafter(chances, vocab=1000)
    text, ids = expected_text(PROMPT, SAMPLING, 300), PROMPT
    for token in text:
        (found,) = expand(drafter, ids, ROOT)
        assert [exp(one.log_prob) for one in found.candidates] == pytest.approx(chances)
        tokens = [one.token for one in found.candidates]
        rank = right_rank(7, len(ids), chances)
        assert len(set(tokens)) == 3
        assert (token in tokens) == (rank < 3)
        assert rank == 3 or tokens[rank] == token
        ids = (*ids, token)


def test_chances_may_differ_from_prefix_to_prefix() -> None:
    n = 4000
    drawn = [spread_chances(mix(state), 0.75, 3) for state in range(n)]
    assert sum(chances[0] for chances in drawn) / n == pytest.approx(0.75, abs=0.01)
    assert all(sum(chances) <= 1.0 and sorted(chances, reverse=True) == list(chances) for chances in drawn)
    drafter = ModelledTreeDrafter(lambda state: spread_chances(state, 0.75, 3), vocab=1000)
    (found,) = expand(drafter, PROMPT, ROOT)
    chances = spread_chances(Chain(PROMPT).states[-1], 0.75, 3)
    assert [exp(one.log_prob) for one in found.candidates] == pytest.approx(chances)


@pytest.mark.parametrize("chances", [(0.7, 0.15, 0.05), (0.3,), (1.0,)])
def test_a_speculative_loop_gives_the_text_whatever_the_tree(chances: tuple[float, ...]) -> None:
    """Best-first growth between verdicts; all nodes of a level at once. The tree mirrors the drafter's."""
    drafter, rng = ModelledTreeDrafter(chances, vocab=1000), random.Random(1)
    tree, ids, accepted = DraftTree(len(PROMPT)), PROMPT, 0
    while len(ids) < len(PROMPT) + 200:
        for _ in range(rng.randrange(4)):
            for expansion in expand(drafter, ids, *tree.frontier(4)):
                tree.add(expansion)
        target = expected_text(ids, SAMPLING, 6)
        path = tree.follow(target[:5])
        new = target[: len(path) + 1]
        accepted += len(path)
        ids = (*ids, *new)
        root = tree.advance(new)
        if rng.random() < 0.5:  # else the next request says it
            assert drafter.advance("s", ids) == root
    assert ids[len(PROMPT) :] == expected_text(PROMPT, SAMPLING, len(ids) - len(PROMPT))
    assert accepted > 20


def test_states_follow_paths_and_roots() -> None:
    drafter = ModelledTreeDrafter((0.5, 0.4), vocab=1000)
    tree = DraftTree(len(PROMPT))
    for _ in range(8):
        for expansion in expand(drafter, PROMPT, *tree.frontier(3)):
            tree.add(expansion)
    child = tree.children(ROOT)[1]
    ids = (*PROMPT, child.token)
    assert drafter.advance("s", ids) == tree.advance([child.token]) == child.number
    for _ in range(3):
        for expansion in expand(drafter, ids, *tree.frontier(3)):
            state = Chain((*ids, *tree.path(expansion.node))).states[-1]
            rank = right_rank(7, len(ids) + tree.depth(expansion.node), (0.5, 0.4))
            if rank < 2:
                assert expansion.candidates[rank].token == choose(state, SAMPLING)
            assert extend(state, 1) != state
            tree.add(expansion)


def test_prompts_are_fed_in_pieces_and_cost_time() -> None:
    drafter = ModelledTreeDrafter(draft_ms=10.0, node_share=0.5, feed_share=0.1, vocab=1000)
    long = tuple(range(1, 102))
    first = request("s", long, ROOT)
    assert drafter.cost_s([first]) == pytest.approx(0.01 * (1 + 6.4))
    (growth,) = drafter.grow([first])
    assert (growth.missing, growth.expansions, growth.draft_us) == (36, (), 74_000)
    assert drafter.cost_s([first]) == pytest.approx(0.01 * (1 + 3.6))
    (growth,) = drafter.grow([first])
    assert (growth.missing, len(growth.expansions)) == (0, 1)
    assert drafter.cost_s([request("s", long, 0, 1, 2)]) == pytest.approx(0.01 * (1 + 0.5 * 2))
    assert drafter.cost_s([request("s", long)]) == 0.0


def test_bounds_stale_nodes_and_errors() -> None:
    drafter = ModelledTreeDrafter((0.5, 0.3, 0.1), vocab=1000, capacity=2, kv_tokens=50)
    expand(drafter, PROMPT, ROOT)
    assert [one.node for one in expand(drafter, PROMPT, 1, 1, ROOT, 99)] == [1]
    assert drafter.advance("s", (*PROMPT, 999)) == ROOT
    assert [one.first for one in expand(drafter, (*PROMPT, 999), 0, ROOT)] == [6]
    assert drafter.advance("s", PROMPT[:5]) == ROOT  # a rollback
    assert [one.first for one in expand(drafter, PROMPT[:5], ROOT)] == [9]
    too_long = request("t", tuple(range(46)), ROOT)
    assert "50 KV tokens" in drafter.grow([too_long])[0].error
    drafter.grow([request("u", (1,), ROOT)])
    assert "2 sessions are open" in drafter.grow([request("v", (1,), ROOT)])[0].error
    assert drafter.sessions() == {"s", "u"}
    drafter.forget("s")
    drafter.forget("none")
    assert drafter.advance("s", PROMPT) == ROOT
    drafter.close()
    assert drafter.sessions() == frozenset()
    with pytest.raises(ValueError, match="of one session"):
        drafter.grow([request("a", (1,)), request("a", (1,))])
    with pytest.raises(ValueError, match="without tokens"):
        drafter.advance("s", ())
    with pytest.raises(ValueError, match="0 children"):
        drafter.grow([request("a", (1,), width=0)])


def test_a_decode_has_a_bounded_number_of_nodes() -> None:
    drafter, tree = ModelledTreeDrafter(vocab=1000), DraftTree(len(PROMPT))
    for _ in range(6):
        for expansion in expand(drafter, PROMPT, *tree.frontier(50)):
            tree.add(expansion)
    open_nodes = tree.frontier(100)
    assert len(open_nodes) > NODES
    assert [one.node for one in expand(drafter, PROMPT, *open_nodes)] == open_nodes[:NODES]
