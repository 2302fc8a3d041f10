"""One session's tree: what devices may send, and that its decisions give the target's own text."""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.core import VerifiedSession, grown_error
from services.verifier.trees.tree_session import SentPiece, TreeSession
from shared.compute.target import Choices
from shared.compute.tree_drafter import MAX_DEPTH, MAX_NODES, ROOT
from shared.protocol.messages import Finish, Grown, TreeSource
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams
from tests.services.verifier.trees.hashed import VOCAB, HashedTarget, sequential, target

PROMPT = (1, 2, 3)
STOP = 4


def session_of(max_tokens: int = 40, stop_ids: tuple[int, ...] = ()) -> VerifiedSession:
    spec = SessionSpec("s", PROMPT, SamplingParams(1, VOCAB), max_tokens, stop_ids, "g:1", 1000)
    return VerifiedSession(spec, 1, list(PROMPT), "", 1)


def tree_of(source: TreeSource = "device", max_tokens: int = 40) -> TreeSession:
    return TreeSession.begin(session_of(max_tokens), source)


def nodes(
    first: int,
    parents: Sequence[int],
    tokens: Sequence[int] = (),
    tree: int = len(PROMPT),
    survival: bytes = b"",
) -> Grown:
    """Nodes of a device's tree; tokens 0, 1, … unless given."""
    given_tokens = tuple(tokens) or tuple(range(len(parents)))
    return Grown("s", 1, tree, first, given_tokens, tuple(parents), survival or b"\x80" * len(parents))


def shape(tree: TreeSession) -> dict[int, tuple[int, int]]:
    """Alive nodes: (parent, token) by number."""
    return {node.number: (node.parent, node.token) for node in tree.tree.nodes.values()}


# --- what is taken ----------------------------------------------------------------------------------------
def test_nodes_hang_below_the_root_and_each_other_with_the_devices_chances() -> None:
    tree = tree_of()
    assert tree.graft(nodes(0, (-1, -1, 0), (7, 8, 9), survival=bytes((204, 51, 255))))
    assert shape(tree) == {0: (ROOT, 7), 1: (ROOT, 8), 2: (0, 9)}
    assert [tree.tree.survival(n) for n in (0, 1, 2)] == pytest.approx([0.8, 0.2, 0.8])
    assert tree.unsent() == [0, 2, 1]


def test_repeats_are_passed_over_whole_or_in_part() -> None:
    tree = tree_of()
    both = nodes(0, (-1, -1, 0, 0))
    tree.graft(nodes(0, (-1, -1)))
    assert not tree.graft(nodes(0, (-1, -1)))
    assert tree.graft(both)
    assert (shape(tree)[3], tree.received) == ((0, 3), 4)
    assert not tree.graft(both)
    assert not tree.torn


def test_after_a_gap_nothing_is_taken_until_the_next_tree() -> None:
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1)))
    assert not tree.graft(nodes(3, (0,)))
    assert tree.torn
    assert not tree.graft(nodes(2, (0,)))  # what was missing comes too late
    assert sorted(shape(tree)) == [0, 1]
    flush(tree, 3)
    assert not tree.torn
    assert not tree.graft(nodes(2, (0,)))  # of the tree before
    assert tree.graft(nodes(0, (-1,), tree=4))
    assert [node.token for node in tree.tree.nodes.values()] == [0]


def flush(tree: TreeSession, token: int) -> None:
    """Feed the root; the target says a token that was not drafted."""
    step = tree.take(tree.piece([]), Choices((token,)))
    assert step is not None
    assert step.tokens == (token,)


@pytest.mark.parametrize("source", ["core", ""])
def test_a_tree_that_no_device_grows_takes_none(source: TreeSource) -> None:
    tree = tree_of(source)
    assert not tree.graft(nodes(0, (-1,)))
    assert shape(tree) == {}


def test_numbers_of_the_next_tree_begin_again_and_mean_other_nodes() -> None:
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1, 0)))
    flush(tree, 3)
    tree.graft(nodes(0, (-1, 0), (9, 8), tree=4))
    assert list(shape(tree).values()) == [(ROOT, 9), (min(shape(tree)), 8)]
    assert min(shape(tree)) > 2


def test_the_first_root_is_no_parent_once_a_node_is_the_root() -> None:
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1), (2, 3)))
    sent = tree.piece([0])
    step = tree.take(sent, Choices((2, 4)))
    assert step is not None
    assert (step.tokens, tree.hangs_from) == ((2, 4), 5)
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1), (2, 3)))
    tree.take(tree.piece([]), Choices((2,)))
    assert tree.tree.root == 0
    tree.graft(nodes(2, (-1,), (1,)))  # was sent before the device heard of it
    assert shape(tree) == {}
    tree.graft(nodes(3, (0,), (1,)))  # and this after
    assert shape(tree) == {3: (0, 1)}


# --- hostile nodes ----------------------------------------------------------------------------------------
GOOD = nodes(5, (-1, 3, 5))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"epoch": 2}, "epoch 2"),
        ({"first_node": -1}, "from -1 on"),
        ({"parents": (-1, 3)}, "2 parents"),
        ({"parents": ()}, "0 parents"),
        ({"survival": b"\x80\x80"}, "2 survivals"),
        ({"tokens": (0, 1, VOCAB)}, f"token {VOCAB} beyond"),
        ({"parents": (-1, 3, 7)}, "parent after its child"),
        ({"parents": (5, 3, 5)}, "parent after its child"),
    ],
)
def test_what_is_wrong_with_nodes_is_named(changes: dict[str, object], says: str) -> None:
    found = grown_error(replace(GOOD, **changes), 1, VOCAB)  # type: ignore[arg-type]
    assert says in found
    assert bool(found) == bool(says)


def test_dead_unknown_and_repeated_parents_cost_their_children_alone() -> None:
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1, 0, 1), (1, 2, 3, 3)))
    tree.take(tree.piece([]), Choices((1,)))  # node 0 is the root; 1 and 3 are dead
    tree.graft(
        nodes(4, (1, 3, 2, 0, 2, 9, 8), (1, 1, 1, 1, 2, 0, 3)),
    )  # dead, dead, good, expanded already, a family divided, dead in this message
    assert shape(tree) == {2: (0, 3), 6: (2, 1)}
    assert tree.received == 11
    assert tree.graft(nodes(11, (6,), (4,)))  # numbers of what was left out are used up
    assert shape(tree)[11] == (6, 4)


def test_a_tree_is_bounded_whatever_is_sent() -> None:
    deep = tree_of(max_tokens=1000)
    for at in range(3 * MAX_DEPTH):
        deep.graft(nodes(at, (at - 1,), (0,)))
    assert len(shape(deep)) == MAX_DEPTH
    wide = tree_of()
    for family in range(200):
        wide.graft(nodes(64 * family, (family - 1,) * 64, range(64)))
    assert len(shape(wide)) <= MAX_NODES


def test_ten_thousand_nodes_and_numbers_that_jump_take_no_room() -> None:
    rng, tree = random.Random(1), tree_of(max_tokens=1000)
    first = 0
    for _ in range(10_000 // 50):
        parents = sorted(rng.randrange(-1, first + 1) for _ in range(50))
        tree.graft(nodes(first, [min(p, first + at - 1) for at, p in enumerate(parents)], [1] * 50))
        first += 50
        assert len(tree.tree.nodes) <= MAX_NODES
    tree.graft(nodes(1 << 20, (5,), (1,)))
    assert tree.torn
    assert len(tree.unsent()) <= MAX_NODES


def test_equal_tokens_of_one_parent_count_once() -> None:
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1, 0, 1), (2, 2, 3, 4)))
    step = tree.take(tree.piece([0, 1, 2, 3]), Choices((2, 3, 4, 0, 0)))
    assert step is not None
    assert step.tokens == (2, 3, 0)  # along the first of the twins


def test_a_survival_of_zero_is_a_small_chance() -> None:
    tree = tree_of()
    tree.graft(nodes(0, (-1, -1), survival=b"\x00\x01"))
    assert isclose(tree.tree.survival(0), 0.5 / 255)
    assert tree.unsent() == [1, 0]


# --- any tree, any pieces, any order ----------------------------------------------------------------------
MOVES = st.lists(
    st.one_of(
        # families as a message, and its survival bytes. A family: its parent among all numbers so far, and tokens;
        # from VOCAB on they stand for the target's own.
        st.tuples(
            st.just("graft"),
            st.lists(
                st.tuples(st.integers(0, 99), st.lists(st.integers(0, 2 * VOCAB), min_size=1, max_size=3)),
                min_size=1,
                max_size=4,
            ),
            st.integers(0, 255),
        ),
        st.tuples(st.just("send"), st.integers(0, 6), st.integers(0, 99)),
        st.tuples(st.just("return"), st.integers(0, 99), st.none()),
        st.tuples(st.just("tear"), st.none(), st.none()),
    ),
    min_size=8,
    max_size=60,
)


class Play:
    """A tree in the hands of a test: nodes are grafted, pieces sent, and results returned in any order."""

    def __init__(self, seed: int, max_tokens: int, stop_ids: tuple[int, ...]) -> None:
        self.session = session_of(max_tokens, stop_ids)
        self.tree = TreeSession.begin(self.session, "device")
        self.target, self._seed = HashedTarget(seed, PROMPT[:-1]), seed
        self.under_way: list[tuple[SentPiece, Choices]] = []
        self.text: list[int] = []
        self.finish: Finish = ""
        self.drafted = self.accepted = 0

    def graft(self, families: list[tuple[int, list[int]]], survival: int) -> None:
        """Nodes with the numbers that come next, below any before them, alive or not."""
        first = self.tree.received
        tokens: list[int] = []
        parents: list[int] = []
        texts: dict[int, list[int]] = {}  # by number, as far as they are alive
        for node in (ROOT, *self.tree.tree.nodes):
            number = ROOT if node == ROOT else node - self.tree.offset
            texts[number] = [*self.tree.ids, *self.tree.tree.path(node)]
        for place, family in families:
            parent = place % (first + len(tokens) + 1) - 1
            before = texts.get(parent, [])
            own = [token if token < VOCAB else target(self._seed, before) for token in family]
            texts |= {first + len(tokens) + at: [*before, token] for at, token in enumerate(own)}
            parents += [parent] * len(own)
            tokens += own
        grown = nodes(first, parents, tokens, self.tree.hangs_from, bytes([survival] * len(tokens)))
        assert grown_error(grown, 1, VOCAB) == ""
        self.tree.graft(grown)

    def send(self, rows: int, skip: int) -> None:
        """The next piece, unless there is nothing for one: with the likeliest of those that may be fed."""
        found = self.tree.unsent()
        fed = set(self.tree.slots.nodes) | {ROOT, self.tree.tree.root}
        chosen: list[int] = []
        for node in found[skip % 3 :]:
            if len(chosen) < rows and (self.tree.tree.nodes[node].parent in fed):
                chosen.append(node)
                fed.add(node)
        if chosen or not self.tree.root_fed:
            sent = self.tree.piece(chosen)
            self.under_way.append((sent, self.target.feed(sent.row)))

    def give_back(self, at: int) -> None:
        """The result of any piece under way."""
        if self.under_way:
            sent, choices = self.under_way.pop(at % len(self.under_way))
            step = self.tree.take(sent, choices)
            if step is not None:
                assert step.base_len == len(PROMPT) + len(self.text)
                assert 0 <= step.accepted <= step.drafted
                self.target.decide(step)
                self.text += step.tokens
                self.finish = step.finish
                self.drafted, self.accepted = self.drafted + step.drafted, self.accepted + step.accepted

    def tear(self) -> None:
        """A message that was lost."""
        self.tree.graft(nodes(self.tree.received + 1, (0,), (0,), self.tree.hangs_from))


@settings(max_examples=300)
@given(
    st.integers(0, 2**64 - 1), MOVES, st.integers(1, 30), st.sampled_from([(), (STOP,), tuple(range(VOCAB))])
)
def test_the_text_is_that_of_sequential_decoding(
    seed: int, moves: list[tuple[str, object, object]], max_tokens: int, stop_ids: tuple[int, ...]
) -> None:
    play = Play(seed, max_tokens, stop_ids)
    text = sequential(seed, PROMPT, max_tokens, stop_ids)
    for kind, one, other in moves:
        match kind:
            case "graft":
                play.graft(one, other)  # type: ignore[arg-type]
            case "send":
                play.send(one, other)  # type: ignore[arg-type]
            case "return":
                play.give_back(one)  # type: ignore[arg-type]
            case _:
                play.tear()
        assert play.text == text[: len(play.text)]
        if play.finish:
            break
    while not play.finish:  # and then to its end
        play.send(3, 0)
        play.give_back(0)
    assert play.text == text
    assert play.finish == ("stop" if text[-1] in stop_ids else "length")


def test_long_plays_give_the_text_of_sequential_decoding() -> None:
    """Random plays in which trees are larger than those that hypothesis draws."""
    accepted = 0
    for seed in range(400):
        rng = random.Random(seed)
        play, text = Play(seed, 30, ()), sequential(seed, PROMPT, 30)
        for _ in range(rng.randrange(60)):
            match rng.choices(("graft", "send", "return", "tear"), (35, 30, 33, 2))[0]:
                case "graft":
                    widths = [rng.randrange(1, 4) for _ in range(rng.randrange(1, 5))]
                    families = [(rng.randrange(100), rng.choices(range(2 * VOCAB), k=n)) for n in widths]
                    play.graft(families, rng.randrange(256))
                case "send":
                    play.send(rng.randrange(7), rng.randrange(100))
                case "return":
                    play.give_back(rng.randrange(100))
                case _:
                    play.tear()
            if play.finish:
                break
        while not play.finish:
            play.send(3, 0)
            play.give_back(0)
        assert play.text == text, seed
        accepted += play.accepted
    assert accepted > 400  # else nothing was tested


def test_a_perfect_device_saves_passes() -> None:
    """Nothing above would notice a session that accepts nothing."""
    play, text = Play(5, 30, ()), sequential(5, PROMPT, 30)
    while not play.finish:
        known = len(play.text)
        if not play.tree.tree.nodes and play.tree.tree.root == ROOT:
            chain = text[known : known + 6]
            play.tree.graft(nodes(0, range(-1, len(chain) - 1), chain, play.tree.hangs_from))
        play.send(4, 0)
        play.give_back(0)
    assert play.text == text
    assert play.accepted > 15
