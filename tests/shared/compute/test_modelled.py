"""The modelled pair: costs, acceptance rate, and a text that reveals any cache error."""

import pytest

from shared.compute.drafter import DraftRequest, NoCapacity
from shared.compute.modelled import STOP, expected_text, guesses_right
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams
from shared.speculative.rule import accept_chain, accept_tree

PROMPT = tuple(range(1, 20))
SAMPLING = SamplingParams(seed=7, vocab=1000)


def feed_row(session: str, start: int, tokens: tuple[int, ...], committed: int, **more: object) -> TargetRow:
    return TargetRow(session, start, tokens, committed, choose=True, sampling=SAMPLING, **more)  # type: ignore[arg-type]


def draft_all(drafter: ModelledDrafter, request: DraftRequest) -> tuple[tuple[int, ...], float]:
    drafter.start(request)
    spent = 0.0
    while drafter.busy():
        spent += next(iter(drafter.costs_s()), 0.0)
        results = drafter.step()
    return results[0].tokens, spent


def generate(target: ModelledTarget, drafter: ModelledDrafter, n: int, k: int) -> tuple[list[int], int, int]:
    """A bare speculative loop; the text, accepted tokens, rounds that ended in a rejection."""
    ids, accepted, rejected, start = list(PROMPT), 0, 0, 0
    while len(ids) < len(PROMPT) + n:
        draft, _ = draft_all(drafter, DraftRequest("s", ids, k, SAMPLING))
        assert target.admit("s", PROMPT, ["s"], len(ids) + len(draft))
        fed = (*ids[start:], *draft)
        choices = target.forward([feed_row("s", start, fed, len(ids) - start)])[0].tokens
        good = accept_chain(draft, choices)
        accepted, rejected = accepted + good, rejected + (good < len(draft))
        target.keep("s", len(ids) + good)
        start = target.cached("s")
        ids += choices[: good + 1]
    return ids[len(PROMPT) :][:n], accepted, rejected


@pytest.mark.parametrize("k", [0, 1, 4, 8])
def test_text_is_the_expected_one_whatever_is_drafted(k: int) -> None:
    text, _, _ = generate(ModelledTarget(1000), ModelledDrafter(0.7, vocab=1000), 60, k)
    assert tuple(text) == expected_text(PROMPT, SAMPLING, 60)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_alpha_is_realised(alpha: float) -> None:
    _, accepted, rejected = generate(ModelledTarget(1000), ModelledDrafter(alpha, vocab=1000), 3000, 4)
    assert accepted / max(1, accepted + rejected) == pytest.approx(alpha, abs=0.03)


def test_luck_does_not_depend_on_the_policy() -> None:
    assert [guesses_right(7, t, 0.5) for t in range(50)] == [guesses_right(7, t, 0.5) for t in range(50)]
    assert sum(guesses_right(7, t, 0.5) for t in range(4000)) == pytest.approx(2000, abs=120)


@pytest.mark.parametrize("spoilt", [0, 5, len(PROMPT) - 1])
def test_one_wrong_token_anywhere_changes_the_text(spoilt: int) -> None:
    other = tuple(t + (i == spoilt) for i, t in enumerate(PROMPT))
    assert expected_text(other, SAMPLING, 8) != expected_text(PROMPT, SAMPLING, 8)
    assert expected_text(PROMPT, SamplingParams(8, 1000), 8) != expected_text(PROMPT, SAMPLING, 8)


def test_stop_tokens_are_rare_and_end_the_text() -> None:
    ends = [len(expected_text((i,), SAMPLING, 10_000, stop_every=50)) for i in range(200)]
    assert 30 < sum(ends) / len(ends) < 75
    assert expected_text((3,), SAMPLING, 10_000, stop_every=50)[-1] == STOP
    assert STOP not in expected_text((3,), SAMPLING, 2000)


def test_a_wrong_rollback_changes_the_text() -> None:
    target = ModelledTarget(1000)
    assert target.admit("s", PROMPT, ["s"], 30)
    right = target.forward([feed_row("s", 0, PROMPT, len(PROMPT))])[0].tokens[0]
    target.keep("s", len(PROMPT) - 2)
    start = target.cached("s")
    wrong = target.forward([feed_row("s", start, PROMPT[-1:], 1)])[0].tokens[0]
    assert wrong != right
    with pytest.raises(ValueError, match="cached"):
        target.forward([feed_row("s", 3, PROMPT[-1:], 1)])


def test_a_tree_is_walked_like_its_path() -> None:
    truth = expected_text(PROMPT, SAMPLING, 4)
    draft, parents = (5, truth[0], 6, truth[1]), (-1, -1, 1, 1)
    target = ModelledTarget(1000)
    assert target.admit("s", PROMPT, ["s"], len(PROMPT) + 4)
    row = feed_row("s", 0, PROMPT + draft, len(PROMPT), parents=parents)
    choices = target.forward([row])[0].tokens
    path = accept_tree(draft, parents, choices)
    assert path == [1, 3]
    target.keep("s", len(PROMPT), path)
    start = target.cached("s")
    assert start == len(PROMPT) + 2
    assert choices[path[-1] + 1] == truth[2]
    assert target.admit("s", PROMPT, ["s"], start + 1)
    assert target.forward([feed_row("s", start, truth[2:3], 1)])[0].tokens == truth[3:4]


def test_costs_follow_their_laws() -> None:
    target = ModelledTarget(1000, beta_ms=20, per_token_ms=2, per_context_ms=0.5)
    rows = [feed_row("a", 10, (1, 2), 1), feed_row("b", 0, (1,), 1)]
    assert target.cost_s(rows) == pytest.approx(0.020 + 3 * 0.002 + 10 * 0.0005)
    drafter = ModelledDrafter(0.8, draft_ms=10, vocab=1000)
    _, spent = draft_all(drafter, DraftRequest("s", PROMPT, 0, SAMPLING))
    assert spent == pytest.approx(0.010 * (1 + 0.2 * (len(PROMPT) - 1)))
    _, spent = draft_all(drafter, DraftRequest("s", PROMPT, 4, SAMPLING))
    assert spent == pytest.approx(0.040)
    for session in "ab":
        drafter.start(DraftRequest(session, (1,), 1, SAMPLING))
    assert sum(drafter.costs_s()) == pytest.approx(0.010 * 1.7)


def test_a_drafter_is_as_sure_as_it_is_right_and_stops_there() -> None:
    drafter = ModelledDrafter(0.5, draft_ms=10)
    drafter.start(DraftRequest("s", (1, 2), 16, SAMPLING, stop_below=60))
    results = []
    while drafter.busy():
        results += drafter.step()
    assert [list(result.survival) for result in results] == [[128, 64, 32]]
    assert len(results[0].tokens) == 3


def test_a_drafter_refuses_beyond_its_bounds_and_takes_again_after_forget() -> None:
    drafter = ModelledDrafter(vocab=1000, capacity=1, kv_tokens=40)
    drafter.start(DraftRequest("a", PROMPT, 4, SAMPLING))
    with pytest.raises(NoCapacity):
        drafter.start(DraftRequest("b", PROMPT, 4, SAMPLING))
    drafter.forget("a")
    with pytest.raises(NoCapacity):
        drafter.start(DraftRequest("b", PROMPT * 2, 4, SAMPLING))
    drafter.start(DraftRequest("b", PROMPT, 4, SAMPLING))
    assert drafter.sessions() == {"b"}


class TestPool:
    """A pool of 4 pages of 8 tokens."""

    def target(self, sharing: bool = False) -> ModelledTarget:
        return ModelledTarget(1000, kv_tokens=32, page_tokens=8, prefix_sharing=sharing)

    def fill(self, target: ModelledTarget, session: str, prompt: tuple[int, ...]) -> bool:
        if not target.admit(session, prompt, [session], len(prompt)):
            return False
        start = target.cached(session)
        target.forward([feed_row(session, start, prompt[start:], len(prompt) - start)])
        return True

    def test_the_youngest_goes_first_and_never_for_a_younger_one(self) -> None:
        target = self.target()
        assert self.fill(target, "old", tuple(range(8)))
        assert self.fill(target, "mid", tuple(range(16)))
        assert self.fill(target, "new", tuple(range(8)))
        assert not self.fill(target, "newest", tuple(range(8)))
        assert target.admit("old", (), ["old"], 16)
        assert target.sessions() == {"old", "mid"}
        assert not target.admit("new", tuple(range(8)), ["new"], 8)
        assert target.pages() == (4, 4)

    def test_protected_sessions_stay(self) -> None:
        target = self.target()
        assert self.fill(target, "old", tuple(range(16)))
        assert self.fill(target, "new", tuple(range(16)))
        assert not target.admit("old", (), ["old", "new"], 24)
        assert target.sessions() == {"old", "new"}

    def test_prefix_pages_are_shared_and_outlive_their_first_holder(self) -> None:
        target = self.target(sharing=True)
        assert self.fill(target, "a", PROMPT)
        assert target.admit("b", PROMPT, ["b"], len(PROMPT))
        assert target.cached("b") == 16
        assert target.pages() == (4, 4)
        target.forget("a")
        text = target.forward([feed_row("b", 16, PROMPT[16:], len(PROMPT) - 16)])[0].tokens
        assert text == expected_text(PROMPT, SAMPLING, 1)
        target.forget("b")
        assert target.pages() == (0, 4)

    def test_the_last_prompt_token_is_never_shared(self) -> None:
        target = self.target(sharing=True)
        prompt = tuple(range(16))
        assert self.fill(target, "a", prompt)
        assert target.admit("b", prompt, ["b"], 16)
        assert target.cached("b") == 8


@pytest.mark.parametrize(("prompt", "k"), [(1, 4), (40, 4), (65, 3), (200, 1), (100, 0)])
def test_it_knows_the_costs_of_a_request_that_is_alone(prompt: int, k: int) -> None:
    drafter = ModelledDrafter(draft_ms=10)
    drafter.start(DraftRequest("s", tuple(range(prompt)), k, SamplingParams(seed=1, vocab=1000)))
    costs = drafter.costs_s()
    singly = []
    while drafter.busy():
        singly.append(drafter.costs_s()[0])
        drafter.step()
    assert costs == singly


def test_it_knows_only_the_next_cost_where_it_may_stop_or_is_shared() -> None:
    sampling = SamplingParams(seed=1, vocab=1000)
    drafter = ModelledDrafter(draft_ms=10)
    drafter.start(DraftRequest("s", (1, 2), 4, sampling, stop_below=9))
    assert len(drafter.costs_s()) == 1
    drafter.start(DraftRequest("s", (1, 2), 4, sampling))
    assert len(drafter.costs_s()) == 4
    drafter.start(DraftRequest("t", (1, 2), 4, sampling))
    assert len(drafter.costs_s()) == 1
