"""The device's state machine where a verifier keeps a session: orders to grow, nodes to send, and their end."""

from dataclasses import replace

import pytest

from services.draft_worker.grown_trees import Grow, Nodes, StopGrowing
from services.draft_worker.sessions import CountRefusal, DraftSessions, Forget, SendToScheduler
from shared.compute.drafter import DraftResult
from shared.protocol.messages import Draft, Resync, Verdict
from shared.speculative.params import SamplingParams
from tests.services.draft_worker.test_sessions import (
    DEVICE,
    PROMPT,
    SURVIVAL,
    open_of,
    opened,
    start,
    verdict,
)

SAMPLING = SamplingParams(1, 100)
NODES = Nodes("s", 4, 2, (5, 6), (-1, 0), bytes((90, 80)), 700)


def kept(base: int, tokens: tuple[int, ...], tree: int = 0) -> Verdict:
    """A verdict of a verifier that keeps the session; its tree hangs from the newest token unless given."""
    return replace(verdict(base, tokens, next_k=0), keeps=True, tree=tree or base + len(tokens))


def growing() -> DraftSessions:
    """A machine whose session grows a tree from length 4 on."""
    sessions = opened(trees=True)
    assert sessions.receive(kept(3, (9,)), 0.0) == [Grow("s", (*PROMPT, 9), SAMPLING, 4)]
    return sessions


def test_a_verdict_with_a_tree_has_it_grown_and_its_nodes_are_sent() -> None:
    sessions = growing()
    draft = Draft("s", 1, 5, 4, DEVICE, (5, 6), bytes((90, 80)), (-1, 0), 700, 0, 2)
    assert sessions.grown(NODES) == [SendToScheduler(draft)]
    assert sessions.is_current(draft)
    assert sessions.receive(kept(4, (8, 7), tree=4), 0.0) == [Grow("s", (*PROMPT, 9, 8, 7), SAMPLING, 4)]
    assert sessions.grown(NODES) != []  # of the same tree, if not alive
    assert sessions.receive(kept(6, (6,)), 0.0) == [Grow("s", (*PROMPT, 9, 8, 7, 6), SAMPLING, 7)]
    assert sessions.grown(NODES) == []
    assert not sessions.is_current(draft)
    assert sessions.grown(replace(NODES, session="t")) == []


def test_repeated_late_and_overlapping_verdicts_with_trees() -> None:
    sessions = growing()
    assert sessions.receive(kept(3, (9,)), 0.0) == [CountRefusal("late")]
    assert sessions.receive(kept(3, (9, 8)), 0.0) == [Grow("s", (*PROMPT, 9, 8), SAMPLING, 5)]
    assert sessions.receive(kept(3, (9,)), 0.0) == [CountRefusal("late")]
    assert sessions.grown(replace(NODES, hangs_from=5)) != []


def test_a_tree_takes_the_place_of_a_chain_under_way_and_a_chain_that_of_a_tree() -> None:
    sessions = opened(trees=True)
    start(sessions.receive(verdict(3, (9,)), 0.0), 4, 4)
    assert sessions.receive(kept(4, (8,)), 0.0) == [Grow("s", (*PROMPT, 9, 8), SAMPLING, 5)]
    assert sessions.finished(DraftResult("s", 4, (5, 6, 7, 8), SURVIVAL, 800), 0) == []
    stopped, begun = sessions.receive(verdict(5, (7,)), 0.0)
    assert stopped == StopGrowing("s")
    start([begun], 6, 4)
    assert sessions.grown(replace(NODES, hangs_from=5)) == []
    assert len(sessions.receive(verdict(6, (7,)), 0.0)) == 1  # stopped once


def test_a_verdict_without_a_tree_or_a_draft_stops_the_tree() -> None:
    assert growing().receive(verdict(4, (8,), next_k=0), 0.0) == [StopGrowing("s")]


def test_an_open_stops_the_tree_until_the_next_verdict() -> None:
    sessions = growing()
    stopped, begun = sessions.receive(open_of((9, 8)), 0.0)
    assert stopped == StopGrowing("s")
    start([begun], 5, 0)
    assert sessions.grown(NODES) == []
    assert sessions.receive(kept(5, (7,), tree=4), 0.0) == [Grow("s", (*PROMPT, 9, 8, 7), SAMPLING, 4)]


@pytest.mark.parametrize("bad", [kept(9, (8,)), kept(3, (8, 8))], ids=["gap", "conflict"])
def test_a_session_that_is_lost_grows_no_further(bad: Verdict) -> None:
    sessions = growing()
    counted, *rest = sessions.receive(bad, 0.0)
    assert isinstance(counted, CountRefusal)
    assert rest == [StopGrowing("s"), SendToScheduler(Resync("s", 1, DEVICE, 4, "gap"))]
    assert sessions.grown(NODES) == []
    assert sessions.receive(kept(4, (8,)), 0.0) == []


def test_a_session_that_ends_is_forgotten_with_its_tree() -> None:
    assert growing().receive(verdict(4, (8,), finish="stop"), 0.0) == [Forget("s")]


def test_a_device_without_a_drafter_of_trees_reads_along() -> None:
    sessions = opened()
    assert sessions.receive(kept(3, (9,)), 0.0) == []
    start(sessions.receive(verdict(4, (8,)), 0.0), 5, 4)


def test_a_draft_of_the_same_drafter_takes_the_place_of_a_tree_and_its_cache_stays() -> None:
    """Stopping would free the cache, and the drafter would read the whole session again."""
    sessions = DraftSessions(DEVICE, vocab=100, capacity=2, trees=True)
    sessions.receive(replace(open_of(), trees=True), 0.0)
    sessions.receive(kept(3, (9,)), 0.0)
    begun = start(sessions.receive(verdict(4, (8,)), 0.0), 5, 4)
    assert begun.trees
    assert sessions.grown(NODES) == []
    sessions.receive(kept(5, (7,)), 0.0)
    assert start(sessions.receive(replace(open_of((9, 8, 7, 6)), trees=True), 0.0), 7, 0).trees
    sessions.receive(kept(7, (5,)), 0.0)
    assert sessions.receive(verdict(8, (4,), next_k=0), 0.0) == [StopGrowing("s")]
