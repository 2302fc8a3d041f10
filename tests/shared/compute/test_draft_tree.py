"""The draft tree: numbers, paths, the best-first frontier, and what a verdict keeps."""

import random
from math import exp, log

import pytest

from shared.compute.draft_tree import DraftTree
from shared.compute.tree_drafter import MAX_DEPTH, MAX_NODES, ROOT, Expansion
from shared.speculative.candidates import Candidate


def grow(tree: DraftTree, node: int, *shares: float, tokens: tuple[int, ...] = ()) -> list[int]:
    """Expand a node with these probabilities; tokens 10, 11, … unless given. Numbers of the children."""
    first = tree.next_number
    given = tokens or tuple(range(10, 10 + len(shares)))
    children = [Candidate(token, log(share)) for token, share in zip(given, shares, strict=True)]
    tree.add(Expansion(node, first, tuple(children)))
    return list(range(first, first + len(shares)))


@pytest.fixture
def tree() -> DraftTree:
    """Below the root 0 (.6), 1 (.3); below 0: 2 (.5), 3 (.4); below 1: 4 (.9)."""
    made = DraftTree(100)
    grow(made, ROOT, 0.6, 0.3)
    grow(made, 0, 0.5, 0.4)
    grow(made, 1, 0.9)
    return made


def test_nodes_know_their_place(tree: DraftTree) -> None:
    assert [tree.position(node) for node in (ROOT, 0, 1, 2, 4)] == [99, 100, 100, 101, 101]
    assert [tree.depth(node) for node in (ROOT, 0, 4)] == [0, 1, 2]
    assert [tree.parent(node) for node in (0, 1, 2, 3, 4)] == [ROOT, ROOT, 0, 0, 1]
    assert (tree.path(3), tree.path(4), tree.path(ROOT)) == ([10, 11], [11, 10], [])
    assert tree.survival(2) == pytest.approx(0.3)
    assert [node.number for node in tree.children(0)] == [2, 3]
    assert tree.children(2) == ()


def test_the_frontier_is_best_first(tree: DraftTree) -> None:
    assert tree.frontier(9) == [2, 4, 3]  # .3, .27, .24
    assert tree.frontier(1) == [2]
    assert DraftTree(1).frontier(3) == [ROOT]
    assert DraftTree(1).frontier(0) == []


def test_a_verdict_keeps_what_follows_the_new_root(tree: DraftTree) -> None:
    assert tree.advance([10]) == 0
    assert (tree.base_len, sorted(tree.nodes)) == (101, [2, 3])
    assert [tree.depth(node) for node in (ROOT, 0, 2)] == [0, 0, 1]
    assert [tree.parent(node) for node in (2, 3)] == [ROOT, ROOT]
    assert tree.survival(2) == pytest.approx(0.5)
    assert tree.path(2) == [10]
    assert [node.number for node in tree.children(ROOT)] == [2, 3]
    assert grow(tree, 3, 1.0) == [5]
    assert tree.advance([11, 10]) == 5
    assert (tree.base_len, tree.nodes, tree.frontier(4)) == (103, {}, [ROOT])
    assert grow(tree, ROOT, 0.5) == [6]
    assert (tree.parent(6), tree.survival(6)) == (ROOT, pytest.approx(0.5))


@pytest.mark.parametrize("tokens", [[12], [10, 12], [10, 10, 10], [11, 10, 3]])
def test_a_verdict_beside_the_tree_empties_it_and_numbers_go_on(tree: DraftTree, tokens: list[int]) -> None:
    assert tree.advance(tokens) == ROOT
    assert (tree.base_len, tree.nodes, tree.frontier(4)) == (100 + len(tokens), {}, [ROOT])
    assert grow(tree, ROOT, 0.5, 0.2) == [5, 6]


def test_no_new_tokens_change_nothing(tree: DraftTree) -> None:
    assert tree.advance([]) == ROOT
    assert sorted(tree.nodes) == [0, 1, 2, 3, 4]


def test_expanding_twice_or_a_stale_or_unknown_node_is_refused(tree: DraftTree) -> None:
    tree.advance([10])
    for node in (ROOT, 0, 1, 4, 99):
        assert not tree.is_open(node, 1)
        with pytest.raises(ValueError, match="cannot be expanded"):
            grow(tree, node, 0.5)
    with pytest.raises(ValueError, match="cannot be expanded"):
        tree.add(Expansion(2, 4, (Candidate(1, -1.0),)))  # a number that was given before


def test_depth_and_size_are_bounded() -> None:
    deep, node = DraftTree(5), ROOT
    for _ in range(MAX_DEPTH):
        node = grow(deep, node, 0.9)[0]
    assert deep.depth(node) == MAX_DEPTH
    assert deep.frontier(3) == []
    deep.advance([10])
    assert deep.frontier(3) == [node]
    wide = DraftTree(5)
    grow(wide, ROOT, *[0.001] * MAX_NODES)
    assert wide.frontier(3) == []


# --- nodes of a like tree ---------------------------------------------------------------------------------
def test_grafted_nodes_have_their_numbers_places_and_scores() -> None:
    tree = DraftTree(100)
    tree.graft(5, (10, 11, 12, 13), (ROOT, ROOT, 5, 6), [log(0.5), log(0.25), log(0.5), 0.0])
    assert sorted(tree.nodes) == [5, 6, 7, 8]
    assert [tree.parent(node) for node in (5, 6, 7, 8)] == [ROOT, ROOT, 5, 6]
    assert [tree.position(node) for node in (5, 7)] == [100, 101]
    assert [tree.survival(node) for node in (5, 6, 7, 8)] == pytest.approx([0.5, 0.25, 0.25, 0.25])
    assert tree.next_number == 9
    assert tree.advance((10,)) == 5
    tree.graft(9, (14,), (7,), [log(0.5)])
    assert tree.path(9) == [12, 14]


def test_nodes_that_find_no_place_are_left_out_and_their_numbers_used_up(tree: DraftTree) -> None:
    tree.advance([10])  # the root is 0; 1 and 4 are dead, 2 and 3 its children
    dead, root, unknown, good = 1, 0, 77, 3
    tree.graft(5, range(20, 27), (dead, root, unknown, good, 2, good, ROOT), [-1.0] * 7)
    assert {number: node.parent for number, node in tree.nodes.items()} == {2: 0, 3: 0, 8: 3, 9: 2}
    assert tree.next_number == 12
    tree.graft(20, (5,), (8,), [-1.0])
    assert (tree.path(20), tree.next_number) == ([11, 23, 5], 21)


def test_a_number_that_was_given_out_is_refused(tree: DraftTree) -> None:
    for parent in (2, 99):
        with pytest.raises(ValueError, match=r"node 4 is known|cannot be expanded"):
            tree.graft(4, (7,), (parent,), [-1.0])
    assert sorted(tree.nodes) == [0, 1, 2, 3, 4]


def test_grafts_are_bounded_in_depth_and_size() -> None:
    deep = DraftTree(5)
    for node in range(2 * MAX_DEPTH):
        deep.graft(node, (1,), (node - 1,), [-0.1])
    assert sorted(deep.nodes) == list(range(MAX_DEPTH))
    wide = DraftTree(5)
    wide.graft(0, [1] * (MAX_NODES + 1), [ROOT] * (MAX_NODES + 1), [-1.0] * (MAX_NODES + 1))
    assert wide.nodes == {}
    wide.graft(MAX_NODES + 1, (1,), (ROOT,), [-1.0])
    assert len(wide.nodes) == 1


def test_a_tree_that_is_grafted_equals_the_one_it_was_taken_from() -> None:
    random_ = random.Random(3)
    theirs, ours = DraftTree(1), DraftTree(1)
    for _ in range(300):
        node = random_.choice(theirs.frontier(4))
        first = theirs.next_number
        children = grow(theirs, node, 0.5, 0.3, 0.1)
        parent = theirs.nodes[children[0]].parent
        ours.graft(first, (10, 11, 12), [parent] * 3, [log(0.5), log(0.3), log(0.1)])
        if random_.random() < 0.3:
            token = random_.randrange(10, 14)
            assert theirs.advance([token]) == ours.advance([token])
        assert ours.nodes == theirs.nodes


def test_random_trees_agree_with_a_plain_model() -> None:
    """Against a dictionary of paths: what is alive, its survival and its number."""
    random_ = random.Random(2)
    tree, ids = DraftTree(1), [0]
    paths: dict[int, tuple[tuple[int, ...], float]] = {}  # by number: tokens from the first root, and score
    at: tuple[tuple[int, ...], float] = ((), 0.0)
    for _ in range(400):
        frontier = tree.frontier(4)
        node = random_.choice(frontier)
        tokens, score = at if node == ROOT else paths[node]
        shares = [0.5, 0.3, 0.1]
        for number, token, share in zip(grow(tree, node, *shares), range(10, 13), shares, strict=True):
            paths[number] = ((*tokens, token), score + log(share))
        if random_.random() < 0.2:
            new = [random_.randrange(10, 14) for _ in range(random_.randrange(3))]
            lead = (*at[0], *new)
            root = (
                next((number for number, (path, _) in paths.items() if path == lead), None) if new else ROOT
            )
            alive = {
                n for n, (path, _) in paths.items() if path[: len(lead)] == lead and len(path) > len(lead)
            }
            result = tree.advance(new)
            ids += new
            if root is None:
                assert result == ROOT
                paths, at = {}, ((), 0.0)
            elif new:
                assert result == root
                at = paths[root]
                paths = {number: paths[number] for number in alive}
        assert (tree.base_len, set(tree.nodes)) == (len(ids), set(paths))
        for number, (path, score) in paths.items():
            assert tree.path(number) == list(path[len(at[0]) :])
            assert tree.survival(number) == pytest.approx(exp(score - at[1]))
