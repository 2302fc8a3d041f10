"""The trees that a device grows: messages, their bounds, and a verifier that loses some of them, or gets them late."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.draft_worker.grown_trees import EXPANDED, MIN_SURVIVAL, Grow, GrownTrees, Nodes
from services.verifier.core import VerifiedSession, grown_error
from services.verifier.trees.tree_session import SentPiece, TreeSession
from shared.compute.draft_tree import DraftTree
from shared.compute.target import Choices
from shared.compute.tree_drafter import MAX_NODES, ROOT, WIDTH, Expansion, GrowRequest, Growth
from shared.protocol.limits import MAX_DRAFT
from shared.protocol.messages import Grown
from shared.protocol.session import SessionSpec
from shared.speculative.candidates import Candidate
from shared.speculative.params import SamplingParams
from tests.services.verifier.trees.hashed import HashedTarget, sequential
from tests.services.verifier.trees.scripted import ScriptedTreeDrafter

PROMPT = (1, 2, 3)
VOCAB = 9
SAMPLING = SamplingParams(1, VOCAB)


def grow(*committed: int, tree: int = 0, session: str = "s") -> Grow:
    """A verdict's order: the session's tokens, and where the verifier's tree hangs, at the newest unless given."""
    ids = (*PROMPT, *committed)
    return Grow(session, ids, SAMPLING, tree or len(ids))


def growth(request: GrowRequest, first: int, *families: tuple[float, ...], us: int = 5) -> Growth:
    """An answer: for each requested node, children of these probabilities, with tokens 0, 1, …"""
    expansions = []
    for node, chances in zip(request.nodes, families, strict=True):
        candidates = tuple(Candidate(token, log(chance)) for token, chance in enumerate(chances))
        expansions.append(Expansion(node, first, candidates))
        first += len(chances)
    return Growth(request.session, len(request.ids), tuple(expansions), 0, us)


def grown_once(*committed: int) -> tuple[GrownTrees, list[Nodes]]:
    """Trees in which the root has the children 0 (.6) and 1 (.3)."""
    trees = GrownTrees()
    assert trees.follow(grow(*committed)) == []
    (request,) = trees.requests()
    assert (request.ids, list(request.nodes)) == ((*PROMPT, *committed), [ROOT])
    return trees, trees.take([growth(request, 0, (0.6, 0.3))])


# --- messages -------------------------------------------------------------------------------------------
def test_what_is_found_is_sent_with_numbers_that_go_on() -> None:
    trees, sent = grown_once()
    assert sent == [Nodes("s", 3, 0, (0, 1), (-1, -1), bytes((153, 76)), 5)]
    (request,) = trees.requests()
    assert list(request.nodes) == [0, 1]
    (sent_next,) = trees.take([growth(request, 2, (0.5,), (0.9, 0.1))])
    assert (sent_next.first_node, sent_next.tokens, sent_next.parents) == (2, (0, 0, 1), (0, 1, 1))
    assert list(sent_next.survival) == [128, 229, 25]  # of each, given its parent


def test_a_verdict_along_the_tree_keeps_the_numbers() -> None:
    trees, _ = grown_once()
    assert trees.follow(grow(0, tree=3)) == []
    (request,) = trees.requests()
    assert list(request.nodes) == [ROOT]
    (sent,) = trees.take([growth(request, 2, (0.5, 0.25))])
    assert (sent.hangs_from, sent.first_node, sent.parents) == (3, 2, (0, 0))
    assert list(sent.survival) == [128, 64]


def test_when_the_verifiers_tree_is_another_what_is_alive_is_sent_again() -> None:
    trees, _ = grown_once()
    (request,) = trees.requests()
    trees.take([growth(request, 2, (0.5, 0.4), (0.9,))])
    (again,) = trees.follow(grow(0))  # the verifier had not got node 0
    assert again == Nodes("s", 4, 0, (0, 1), (-1, -1), bytes((128, 102)))
    assert trees.follow(grow(0, 5)) == []  # a token beside the tree: nothing is alive
    (request,) = trees.requests()
    assert list(request.nodes) == [ROOT]


def test_a_tree_whose_beginning_was_not_seen_is_grown_and_sent_with_the_next() -> None:
    trees = GrownTrees()
    assert trees.follow(grow(0, 1, tree=4)) == []
    (request,) = trees.requests()
    assert trees.take([growth(request, 0, (0.6, 0.3))]) == []
    (request,) = trees.requests()
    assert trees.take([growth(request, 2, (0.5, 0.2), (0.5,))]) == []
    (sent,) = trees.follow(grow(0, 1, 0))  # the next tree begins
    assert (sent.hangs_from, sent.first_node, sent.tokens, sent.parents) == (6, 0, (0, 1), (-1, -1))


def test_families_are_never_divided_and_messages_have_at_most_a_drafts_tokens() -> None:
    trees, width = GrownTrees(), 3
    trees.follow(grow())
    first = 0
    for _ in range(60):
        requests = trees.requests()
        for request in requests:
            answer = growth(request, first, *[(0.4, 0.3, 0.29)] * len(request.nodes))
            first += width * len(request.nodes)
            trees.take([answer])
    messages = trees.follow(grow(2))
    assert len(messages) > 1
    assert [len(one.tokens) for one in messages[:-1]] == [MAX_DRAFT - MAX_DRAFT % width] * (len(messages) - 1)
    assert [one.first_node for one in messages] == [
        sum(len(one.tokens) for one in messages[:at]) for at in range(len(messages))
    ]
    for one in messages:
        families = [parent for parent, _ in groupby(one.parents)]
        assert len(families) == len(set(families)) == len(one.tokens) / width
        assert all(parent < one.first_node + at for at, parent in enumerate(one.parents))


def test_survival_bytes_are_at_least_one() -> None:
    """Zero would let the verifier take a node for impossible."""
    trees, _ = grown_once()
    (request,) = trees.requests()
    (sent,) = trees.take([growth(request, 2, (1e-9, 1.0), (1e-300,))])
    assert list(sent.survival) == [1, 255, 1]


# --- what is expanded -----------------------------------------------------------------------------------
def test_the_likeliest_nodes_of_all_sessions_are_expanded() -> None:
    trees = GrownTrees()
    for name in ("a", "b", "c"):
        trees.follow(grow(session=name))
    assert [request.session for request in trees.requests()] == ["a", "b"][:EXPANDED]
    for request, chances in zip(trees.requests(), ((0.9, 0.02), (0.3, 0.2)), strict=True):
        trees.take([growth(request, 0, chances)])
    assert [(r.session, list(r.nodes)) for r in trees.requests()] == [("c", [ROOT]), ("a", [0])]
    trees.stop("c")
    assert [(r.session, list(r.nodes)) for r in trees.requests()] == [("a", [0]), ("b", [0])]


def test_unlikely_nodes_are_not_expanded_before_a_verdict_makes_them_likely() -> None:
    trees, _ = grown_once()
    (request,) = trees.requests()
    trees.take([growth(request, 2, (1.01 * MIN_SURVIVAL,), (MIN_SURVIVAL,))])
    assert trees.requests() == []
    trees.follow(grow(0, tree=3))
    (request,) = trees.requests()
    assert list(request.nodes) == [2]


def test_a_drafter_that_has_nothing_more_is_asked_after_the_next_verdict() -> None:
    trees, _ = grown_once()
    (request,) = trees.requests()
    assert trees.take([empty(request)]) == []
    assert trees.requests() == []
    trees.follow(grow(0, tree=3))
    assert len(trees.requests()) == 1


def empty(request: GrowRequest, missing: int = 0, error: str = "") -> Growth:
    return Growth(request.session, len(request.ids), (), missing, 5, error)


def test_a_long_prompt_is_read_first() -> None:
    trees = GrownTrees()
    trees.follow(grow())
    for missing in (500, 20):
        (request,) = trees.requests()
        assert trees.take([empty(request, missing)]) == []
    assert len(trees.requests()) == 1


def test_a_session_that_failed_is_not_tried_again_before_it_is_begun_anew() -> None:
    trees, _ = grown_once()
    (request,) = trees.requests()
    trees.take([empty(request, error="no room")])
    trees.follow(grow(0, tree=3))
    assert trees.requests() == []
    assert trees.stop("s")
    assert not trees.stop("s")
    trees.follow(grow(0))
    assert len(trees.requests()) == 1


def test_an_answer_for_other_tokens_or_an_unknown_session_is_passed_over() -> None:
    trees, _ = grown_once()
    (request,) = trees.requests()
    late = growth(request, 2, (0.5,), (0.5,))
    trees.follow(grow(0, tree=3))
    assert trees.take([late, replace(late, session="t")]) == []


def test_tokens_that_conflict_begin_the_tree_anew() -> None:
    trees, _ = grown_once(7)
    assert trees.follow(grow(8)) == []
    (request,) = trees.requests()
    assert (request.ids[-1], list(request.nodes)) == (8, [ROOT])


# --- against the verifier's side ------------------------------------------------------------------------
@dataclass
class Pair:
    """A device and the verifier's side of one session, with everything on the way between them in a test's hands."""

    seed: int
    right: float
    emitted: int = 40
    to_verifier: deque[Nodes] = field(default_factory=deque)
    to_device: deque[Grow] = field(default_factory=deque)
    heard: list[Nodes] = field(default_factory=list)
    under_way: deque[tuple[SentPiece, Choices]] = field(default_factory=deque)
    over: bool = False

    def __post_init__(self) -> None:
        self.text = [*PROMPT, *sequential(self.seed, PROMPT, self.emitted)]
        self.trees = GrownTrees()
        self.drafter = ScriptedTreeDrafter({"s": self.text}, VOCAB, self.right, self.seed)
        spec = SessionSpec("s", PROMPT, SAMPLING, self.emitted, (), "g:1", 1000)
        self.tree = TreeSession.begin(VerifiedSession(spec, 1, list(PROMPT), "", 1), "device")
        self.target = HashedTarget(self.seed, PROMPT[:-1])
        self.trees.follow(grow())

    # --- moves ----------------------------------------------------------------------------------------
    def draft(self) -> None:
        """The device expands a few nodes."""
        if requests := self.trees.requests():
            self._sent(self.trees.take(self.drafter.grow(requests)))

    def verdict(self) -> None:
        """The device hears of the oldest step that it has not heard of."""
        if self.to_device:
            self._sent(self.trees.follow(self.to_device.popleft()))

    def deliver(self, lost: bool = False) -> None:
        """The verifier gets the oldest message, or never."""
        if self.to_verifier:
            nodes = self.to_verifier.popleft()
            if not lost:
                self._graft(nodes)

    def repeat(self, at: int) -> None:
        """The verifier gets a message again."""
        if self.heard:
            self._graft(self.heard[at % len(self.heard)])

    def send(self, rows: int) -> None:
        """The next piece, with the likeliest nodes."""
        nodes = self.tree.unsent()[:rows]
        if nodes or not self.tree.root_fed:
            sent = self.tree.piece(nodes)
            self.under_way.append((sent, self.target.feed(sent.row)))

    def result(self) -> None:
        """The oldest piece returns."""
        if self.under_way and not self.over:
            sent, choices = self.under_way.popleft()
            if (step := self.tree.take(sent, choices)) is not None:
                self.target.decide(step)
                self.over = bool(step.finish)
                self.to_device.append(Grow("s", tuple(self.tree.ids), SAMPLING, self.tree.hangs_from))

    def _graft(self, nodes: Nodes) -> None:
        self.heard.append(nodes)
        grown = Grown("s", 1, nodes.hangs_from, nodes.first_node, nodes.tokens, nodes.parents, nodes.survival)
        assert grown_error(grown, 1, VOCAB) == ""
        self.tree.graft(grown)

    def _sent(self, messages: list[Nodes]) -> None:
        for nodes in messages:
            assert 0 < len(nodes.tokens) == len(nodes.parents) == len(nodes.survival) <= MAX_DRAFT
            assert all(1 <= byte <= 255 for byte in nodes.survival)
            families = [parent for parent, _ in groupby(nodes.parents)]
            assert len(families) == len(set(families)) <= len(nodes.tokens)
            assert len(nodes.tokens) == WIDTH * len(families)
        self.to_verifier += messages

    # --- what must hold -------------------------------------------------------------------------------
    def texts(self) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
        """The texts that end with alive nodes: the device's, and the verifier's."""
        one = self.trees._trees["s"]
        return texts_of(one.ids, one.tree), texts_of(self.tree.ids, self.tree.tree)

    def check(self) -> None:
        device, verifier = self.texts()
        assert verifier <= device
        assert len(verifier) == len(self.tree.tree.nodes) <= MAX_NODES
        assert self.tree.ids == self.text[: len(self.tree.ids)]

    def settle(self) -> None:
        """All that is on the way arrives."""
        while self.to_device or self.to_verifier:
            self.verdict()
            self.deliver()


def texts_of(ids: Sequence[int], tree: DraftTree) -> set[tuple[int, ...]]:
    return {(*ids, *tree.path(node)) for node in tree.nodes}


MOVES = ("draft", "draft", "deliver", "deliver", "verdict", "send", "send", "result", "repeat", "lose")


def move(pair: Pair, kind: str, number: int) -> None:
    match kind:
        case "lose":
            pair.deliver(lost=True)
        case "send":
            pair.send(number % 7)
        case "repeat":
            pair.repeat(number)
        case _:
            getattr(pair, kind)()


@settings(max_examples=150)
@given(
    st.integers(0, 2**32),
    st.sampled_from((0.0, 0.6, 1.0)),
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 99)), min_size=20, max_size=120),
)
def test_the_verifier_has_nothing_that_the_device_has_not(
    seed: int, right: float, moves: list[tuple[str, int]]
) -> None:
    pair = Pair(seed, right)
    for kind, number in moves:
        move(pair, kind, number)
        pair.check()
        if pair.over:
            break


@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_without_losses_both_have_the_same_tree_once_all_has_arrived(right: float) -> None:
    compared = 0
    for seed in range(40):
        rng, pair = random.Random(seed), Pair(seed, right)
        for _ in range(150):
            move(pair, rng.choice(MOVES[:-1]), rng.randrange(100))
            pair.check()
            if pair.over:
                break
            if rng.random() < 0.1:
                pair.settle()
                device, verifier = pair.texts()
                assert device == verifier
                compared += len(device)
    assert compared > 100


@pytest.mark.parametrize("right", [0.0, 0.6])
def test_after_losses_the_next_tree_is_whole_again(right: float) -> None:
    healed = 0
    for seed in range(40):
        rng, pair = random.Random(seed), Pair(seed, right)
        for _ in range(30):
            move(pair, rng.choice(MOVES), rng.randrange(100))
            pair.check()
        pair.settle()
        for lost in (True, False):
            pair.draft()
            pair.deliver(lost)
        torn, hung = pair.tree.torn, pair.tree.hangs_from
        while not pair.over and pair.tree.hangs_from == hung:
            pair.send(2)
            pair.result()
            pair.check()
        if pair.over:
            continue
        pair.settle()
        pair.draft()
        pair.settle()
        device, verifier = pair.texts()
        assert device == verifier
        assert verifier
        healed += torn
    assert healed > 5
