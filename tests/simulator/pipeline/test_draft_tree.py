"""The tree of a session: orders, decisions step by step, and their equality with trees that are decided at once."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculative.rule import accept_tree
from simulator.pipeline.draft_tree import NO_PARENT, DraftTree

# Nodes as (choice of a parent among those before, token, -log-probability); few tokens, so that paths coincide.
NODES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 3), st.floats(0.0, 5.0)), max_size=30)


def grow(tree: DraftTree, nodes: list[tuple[int, int, float]]) -> list[int]:
    """Add nodes below any living ones; the numbers of those that are new."""
    alive, added = tree.order(), []
    for parent, token, cost in nodes:
        before = tree.created
        node = tree.add(alive[parent % len(alive)], token, -cost)
        if tree.created > before:
            alive.append(node)
            added.append(node)
    return added


def test_a_node_has_its_path_score_and_position() -> None:
    tree = DraftTree(7)
    first = tree.add(tree.root, 1, -0.5)
    second = tree.add(first, 2, -0.25)
    assert (tree.root, first, second) == (0, 1, 2)
    assert tree[tree.root].parent == NO_PARENT
    assert tree.path(second) == [first, second]
    assert tree.score(second) == pytest.approx(-0.75)
    assert (tree[second].position, tree.depth(second)) == (2, 2)


def test_a_node_that_exists_is_not_added_again() -> None:
    tree = DraftTree(7)
    first = tree.add(0, 1, -0.5)
    assert tree.add(0, 1, -3.0) == first
    assert (len(tree), tree.created, tree.score(first)) == (2, 2, -0.5)


@pytest.mark.parametrize("logprob", [0.1, float("nan")])
def test_a_log_probability_above_zero_is_refused(logprob: float) -> None:
    with pytest.raises(ValueError, match="at most 0"):
        DraftTree(7).add(0, 1, logprob)


def test_nodes_cannot_be_added_to_the_dead() -> None:
    tree = DraftTree(7)
    wrong = tree.add(0, 1, -0.5)
    tree.decide(2)
    assert wrong not in tree
    with pytest.raises(KeyError):
        tree.add(wrong, 1, -0.5)


def test_a_child_with_the_target_s_token_becomes_the_root() -> None:
    tree = DraftTree(7)
    left, right = tree.add(0, 1, -0.5), tree.add(0, 2, -1.0)
    below, grandchild = tree.add(left, 3, -0.1), tree.add(right, 3, -0.25)
    decision = tree.decide(2)
    assert (decision.root, decision.flushed, set(decision.dead)) == (right, False, {0, left, below})
    assert tree.score(grandchild) == pytest.approx(-0.25)
    assert (tree.depth(grandchild), tree[grandchild].position) == (1, 2)
    assert tree.path(grandchild) == [grandchild]


def test_another_token_flushes_the_tree_and_numbers_go_on() -> None:
    tree = DraftTree(7)
    tree.add(0, 1, -0.5)
    decision = tree.decide(9)
    assert (decision.root, decision.flushed, decision.dead) == (2, True, (0, 1))
    assert (len(tree), tree[2].token, tree[2].position, tree.score(2)) == (1, 9, 1, 0.0)


@given(NODES)
def test_every_prefix_of_the_order_is_a_subtree(nodes: list[tuple[int, int, float]]) -> None:
    tree = DraftTree(7)
    grow(tree, nodes)
    seen: set[int] = set()
    for node in tree.order():
        assert tree[node].parent in seen or node == tree.root
        seen.add(node)
    scores = [tree.score(node) for node in tree.order()]
    assert scores == sorted(scores, reverse=True)


@given(NODES, st.lists(st.integers(0, 3), min_size=31, max_size=31))
def test_deciding_step_by_step_accepts_the_path_of_the_whole_tree(
    nodes: list[tuple[int, int, float]], choices: list[int]
) -> None:
    tree = DraftTree(7)
    drafted = grow(tree, nodes)
    at = {0: -1} | {node: number for number, node in enumerate(drafted)}
    tokens = [tree[node].token for node in drafted]
    parents = [at[tree[node].parent] for node in drafted]
    accepted = [drafted[number] for number in accept_tree(tokens, parents, choices[: len(drafted) + 1])]
    roots, flushed = [], False
    while not flushed:
        decision = tree.decide(choices[at[tree.root] + 1])
        flushed = decision.flushed
        roots.append(decision.root)
    assert roots[:-1] == accepted
    last = at[accepted[-1]] + 1 if accepted else 0
    assert tree[tree.root].token == choices[last]


@given(st.lists(st.tuples(NODES, st.integers(0, 3)), max_size=12))
def test_whatever_is_drafted_the_roots_are_the_target_s_text(
    steps: list[tuple[list[tuple[int, int, float]], int]],
) -> None:
    tree, dead = DraftTree(7), set[int]()
    for position, (nodes, token) in enumerate(steps, start=1):
        grow(tree, nodes)
        decision = tree.decide(token)
        assert tree[tree.root].token == token
        assert tree[tree.root].position == position
        assert not dead & set(decision.dead)
        dead |= set(decision.dead)
        assert dead.isdisjoint(tree.order())
        assert len(dead) + len(tree) == tree.created
        assert all(exp(tree.score(node)) <= 1.0 for node in tree.order())
