"""Draft trees in llama.cpp: a node's candidates are those of decoding its path as a plain chain.

On the tiny model with float32 weights: quantised ones amplify the last bits, which depend on a decode's width.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt
import pytest

from services.draft_worker import llama_tree, tiny_model
from services.draft_worker.llama_drafter import Limits, LlamaDrafter
from services.draft_worker.llama_model import LlamaModel
from services.draft_worker.llama_tree import LlamaTreeDrafter
from services.draft_worker.tiny_model import CONTEXT, VOCAB
from services.draft_worker.tree_book import TreeLimits
from shared.compute.draft_tree import DraftTree
from shared.compute.drafter import DraftRequest
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest, Growth
from shared.speculative.candidates import Candidate, ranked
from shared.speculative.params import SamplingParams

Row = npt.NDArray[np.float32]
TOLERANCE = 0.03  # of a logit; attention adds up in float16, in the order of cells
GREEDY = SamplingParams(1, VOCAB)


class Plain:
    """One sequence, nothing kept from call to call."""

    def __init__(self, path: Path) -> None:
        self._model = LlamaModel(path)
        self._context = self._model.context(CONTEXT, 1, CONTEXT, 1)
        self._batch = llama.llama_batch_init(CONTEXT, 0, 1)

    def logits(self, ids: Sequence[int]) -> Row:
        """Logits after ids. [V]"""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, i == len(ids) - 1
        assert llama.llama_decode(self._context, batch) == 0
        return self._model.logits(self._context, len(ids) - 1).copy()

    def close(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        self._model.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, without quantisation."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_model, "TENSORS", dict.fromkeys(tiny_model.TENSORS, "F32"))
        path.write_bytes(tiny_model.tiny_model())
    return path


@pytest.fixture(scope="module")
def plain(tiny: Path) -> Iterator[Plain]:
    made = Plain(tiny)
    yield made
    made.close()


@pytest.fixture
def drafter(tiny: Path) -> Iterator[LlamaTreeDrafter]:
    made = LlamaTreeDrafter(tiny, TreeLimits(sessions=3, kv_tokens=512, sequences=24, nodes=12))
    yield made
    made.close()


LOGITS: dict[int, Row] = {}  # that candidates were made of, by the id of their tuple


@pytest.fixture(autouse=True)
def _recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Candidates jump where two scores are nearly equal, so what is compared is the logits that they come from."""

    def record(logits: Row, *arguments: Any) -> tuple[Candidate, ...]:
        candidates = ranked(logits, *arguments)
        LOGITS[id(candidates)] = logits.copy()
        return candidates

    monkeypatch.setattr(llama_tree, "ranked", record)
    yield
    LOGITS.clear()


class Session:
    """A session as a device sees it: committed tokens, and a tree made of the drafter's answers."""

    def __init__(self, name: str, ids: Sequence[int], sampling: SamplingParams) -> None:
        self.name, self.ids, self.sampling = name, list(ids), sampling
        self.tree = DraftTree(len(ids))

    def request(self, nodes: Sequence[int], width: int = 3) -> GrowRequest:
        return GrowRequest(self.name, tuple(self.ids), self.sampling, nodes, width)

    def commit(self, tokens: Sequence[int]) -> int:
        self.ids += tokens
        return self.tree.advance(tokens)

    def take(self, growth: Growth, plain: Plain) -> list[Expansion]:
        """Check an answer against a plain decode, and add it to the tree."""
        assert (growth.session, growth.base_len, growth.error) == (self.name, len(self.ids), "")
        for expansion in growth.expansions:
            path = [*self.ids, *self.tree.path(expansion.node)]
            row = LOGITS.pop(id(expansion.candidates))
            np.testing.assert_allclose(row, plain.logits(path), rtol=0, atol=TOLERANCE)
            assert expansion.candidates == ranked(row, self.sampling, len(path), len(expansion.candidates))
            self.tree.add(expansion)
        return list(growth.expansions)


def ids_of(n: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(1, VOCAB) for _ in range(n)]


def grow(drafter: LlamaTreeDrafter, plain: Plain, session: Session, levels: int, nodes: int = 3) -> None:
    """Feed the prompt, then so many levels, best-first."""
    done = 0
    while done < levels:
        (growth,) = drafter.grow([session.request(session.tree.frontier(nodes))])
        done += bool(session.take(growth, plain))


def test_the_comparison_notices_a_wrong_cell(plain: Plain) -> None:
    """One other token ten positions back, or two that changed places, move logits by far more than the tolerance."""
    ids = ids_of(40, 1)
    right = plain.logits(ids)
    for other in ([*ids[:30], ids[30] % 200 + 1, *ids[31:]], [*ids[:-3], ids[-2], ids[-3], ids[-1]]):
        assert np.abs(right - plain.logits(other)).max() > 5 * TOLERANCE


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_a_tree_equals_its_chains(drafter: LlamaTreeDrafter, plain: Plain, temperature: float) -> None:
    session = Session("a", ids_of(100, 3), SamplingParams(3, VOCAB, temperature))  # longer than one piece
    grow(drafter, plain, session, 6, 5)
    assert len(session.tree.nodes) > 50
    assert max(session.tree.depth(node) for node in session.tree.nodes) >= 3


def test_a_verdict_keeps_what_is_computed(drafter: LlamaTreeDrafter, plain: Plain) -> None:
    """No node is decoded again, and what grows on below the new root is right."""
    session = Session("a", ids_of(20, 4), GREEDY)
    grow(drafter, plain, session, 4)
    root = next(
        n for n in session.tree.nodes.values() if session.tree.children(n.number) and n.position == 20
    )
    below = sum(
        session.tree.expanded(node) for node in session.tree.nodes if session.tree.path(node)[0] == root.token
    )
    assert session.commit([root.token]) == drafter.advance("a", session.ids) == root.number
    assert drafter.kv_tokens == 21 + below - 1
    (growth,) = drafter.grow([session.request([ROOT, root.number])])
    assert growth.expansions == ()  # it is expanded
    grow(drafter, plain, session, 3)


def test_a_verdict_beside_the_tree_keeps_the_committed_path(drafter: LlamaTreeDrafter, plain: Plain) -> None:
    session = Session("a", ids_of(20, 5), GREEDY)
    grow(drafter, plain, session, 3)
    node = session.tree.children(ROOT)[0]
    wrong = next(t for t in range(VOCAB) if t not in {c.token for c in session.tree.children(node.number)})
    assert session.commit([node.token, wrong]) == drafter.advance("a", session.ids) == ROOT
    (growth,) = drafter.grow([session.request([ROOT])])
    assert (growth.missing, len(growth.expansions)) == (0, 1)
    assert growth.expansions[0].first > node.number
    session.take(growth, plain)
    grow(drafter, plain, session, 2)


def test_stale_repeated_and_unknown_nodes_are_passed_over(drafter: LlamaTreeDrafter, plain: Plain) -> None:
    session = Session("a", ids_of(9, 6), GREEDY)
    grow(drafter, plain, session, 1)
    (growth,) = drafter.grow([session.request([1, 1, ROOT, 77, 1])])
    assert [one.node for one in session.take(growth, plain)] == [1]


def test_bounds_give_fewer_nodes_and_no_error(tiny: Path, plain: Plain) -> None:
    """Sequences, nodes of a decode and cells: whatever runs out, the answers that there are stay right."""
    for limits in (
        TreeLimits(sessions=2, kv_tokens=512, sequences=4, nodes=12),
        TreeLimits(sessions=2, kv_tokens=512, sequences=24, nodes=2),
        TreeLimits(sessions=2, kv_tokens=256, sequences=24, nodes=12),
    ):
        drafter = LlamaTreeDrafter(tiny, limits)
        sessions = [
            Session("a", ids_of(110, 7), GREEDY),
            Session("b", ids_of(100, 8), SamplingParams(2, VOCAB, 0.7)),
        ]
        offered = answered = 0
        for _ in range(24):
            requests = [session.request(session.tree.frontier(6)) for session in sessions]
            for session, growth in zip(sessions, drafter.grow(requests), strict=True):
                answered += len(session.take(growth, plain))
            offered += sum(len(request.nodes) for request in requests)
        assert 10 < answered < offered
        drafter.close()


def test_errors_name_the_bound_and_concern_one_session(drafter: LlamaTreeDrafter, plain: Plain) -> None:
    long = Session("long", ids_of(CONTEXT + 1, 9), GREEDY)
    session = Session("a", ids_of(9, 9), GREEDY)
    wrong = GrowRequest("b", (VOCAB + 5,), GREEDY, (ROOT,))  # no such token: llama.cpp refuses the batch
    too_long, good, refused = drafter.grow([long.request([ROOT]), session.request([ROOT]), wrong])
    assert "a session may have 256" in too_long.error
    assert "llama_decode answered" in refused.error
    assert session.take(good, plain)
    grow(drafter, plain, session, 3)
    assert drafter.kv_tokens < 30
    with pytest.raises(ValueError, match="without tokens"):
        drafter.grow([GrowRequest("a", (), GREEDY)])


def test_what_sessions_share_does_not_show(drafter: LlamaTreeDrafter, plain: Plain) -> None:
    """A beginning of a live session, of one that left, and one whose owner was rolled back since."""
    template = ids_of(40, 10)
    first = Session("a", [*template, 5, 6], GREEDY)
    grow(drafter, plain, first, 3)
    grow(drafter, plain, Session("b", [*template, 7], GREEDY), 2)
    drafter.forget("a")
    grow(drafter, plain, Session("c", [*template, 5, 6, 9], GREEDY), 2)
    back = Session("b", template[:20], GREEDY)
    back.tree.next_number = 1000  # the drafter's numbers go on; which ones does not matter here
    drafter.advance("b", back.ids)
    (growth,) = drafter.grow([back.request([ROOT])])
    back.tree.next_number = 0
    back.take(growth, plain)
    grow(drafter, plain, Session("d", [*template, 8], GREEDY), 2)


@pytest.mark.model
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_first_candidates_are_what_the_chain_drafter_drafts(float16: Path, temperature: float) -> None:
    chain = LlamaDrafter(float16, Limits(sessions=1, kv_tokens=512))
    drafter = LlamaTreeDrafter(float16, TreeLimits(sessions=1, kv_tokens=512))
    rng = np.random.default_rng(12)  # whose eight tokens are clear on every CPU
    ids = tuple(int(i) for i in rng.integers(17, chain.vocab, 100))
    sampling = SamplingParams(12, chain.vocab, temperature)
    chain.start(DraftRequest("a", ids, 8, sampling))
    results = chain.step()
    while not results:
        results = chain.step()
    tree = DraftTree(len(ids))
    node = ROOT
    while tree.depth(node) < 8:
        (growth,) = drafter.grow([GrowRequest("a", ids, sampling, (node, *tree.frontier(4)))])
        for expansion in growth.expansions:
            tree.add(expansion)
        if growth.expansions:
            node = tree.children(node)[0].number
    assert tuple(tree.path(node)) == results[0].tokens
    chain.close()
    drafter.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_lives_of_sessions(tiny: Path, plain: Plain, seed: int) -> None:
    """Growth, verdicts in and beside the tree, leaving and coming, under bounds that are met all the time."""
    rng = random.Random(seed)
    limits = TreeLimits(sessions=3, kv_tokens=rng.choice([192, 512]), sequences=rng.choice([5, 16]), nodes=8)
    drafter = LlamaTreeDrafter(tiny, limits)
    sessions = {name: new_session(name, rng) for name in "abc"}
    checked = 0
    for _ in range(60):
        for session in sessions.values():
            if rng.random() < 0.4:
                commit_some(session, rng)
                if rng.random() < 0.5:
                    assert drafter.advance(session.name, session.ids) in (session.tree.root, ROOT)
        chosen = rng.sample(sorted(sessions), rng.randrange(1, 4))
        requests = [sessions[name].request(sessions[name].tree.frontier(rng.randrange(5))) for name in chosen]
        for name, growth in zip(chosen, drafter.grow(requests), strict=True):
            if growth.error:
                assert "KV tokens" in growth.error
                sessions[name] = new_session(name, rng)
            else:
                checked += len(sessions[name].take(growth, plain))
        for name, session in tuple(sessions.items()):
            if rng.random() < 0.05 or len(session.ids) > 100:
                drafter.forget(name)
                sessions[name] = new_session(name, rng, session.ids)
    assert checked > 60
    for name in sessions:
        drafter.forget(name)
    assert drafter.kv_tokens == 0
    drafter.close()


def new_session(name: str, rng: random.Random, like: Sequence[int] = ()) -> Session:
    begin = list(like[: rng.randrange(60)]) if rng.random() < 0.7 else []
    return Session(
        name,
        [*begin, *ids_of(rng.randrange(1, 30), rng.randrange(99))],
        SamplingParams(rng.randrange(9), VOCAB, rng.choice([0.0, 0.7, 1.0])),
    )


def commit_some(session: Session, rng: random.Random) -> None:
    """Commit a path of the tree, and perhaps a token that is not in it."""
    tokens: list[int] = []
    node = ROOT
    for _ in range(rng.randrange(4)):
        children = session.tree.children(node)
        if not children:
            break
        child = children[min(int(rng.expovariate(1.0)), len(children) - 1)]
        tokens.append(child.token)
        node = child.number
    if rng.random() < 0.4:
        tokens.append(rng.randrange(1, VOCAB))
    session.commit(tokens)
