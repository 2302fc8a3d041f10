"""The replay drafter: recorded tokens at the set acceptance rate and speed."""

import pytest

from shared.compute.drafter import DraftRequest, NoCapacity
from shared.compute.replay import FEED_SHARE, Recordings, ReplayDrafter
from shared.speculative.params import SamplingParams

TEXTS = (tuple(range(10, 2010)), tuple(range(3000, 4000)))
RECORDINGS = Recordings(TEXTS, "hash", 5000)
SAMPLING = SamplingParams(seed=3, vocab=5000)


def draft(drafter: ReplayDrafter, text: int, base: int, k: int, session: str = "s") -> tuple[int, ...]:
    drafter.start(DraftRequest(session, TEXTS[text][:base], k, SAMPLING))
    (result,) = drafter.step()
    assert result.base_len == base
    assert not drafter.busy()
    return result.tokens


def test_right_as_often_as_told_and_wrong_otherwise() -> None:
    drafter = ReplayDrafter(RECORDINGS, alpha=0.78, draft_ms=5, seed=1)
    tokens = draft(drafter, 0, 100, 1800)
    right = [token == truth for token, truth in zip(tokens, TEXTS[0][100:], strict=False)]
    assert sum(right) / len(right) == pytest.approx(0.78, abs=0.03)


def test_its_luck_is_the_seeds_and_the_positions_alone() -> None:
    one, other = (ReplayDrafter(RECORDINGS, 0.5, 5, seed) for seed in (1, 2))
    whole = draft(one, 0, 100, 64, "a")
    assert draft(one, 0, 132, 32, "b") == whole[32:]
    assert draft(other, 0, 100, 64) != whole


def test_it_takes_its_time_and_more_for_a_new_prompt() -> None:
    drafter = ReplayDrafter(RECORDINGS, 0.5, draft_ms=10, seed=1)
    drafter.start(DraftRequest("s", TEXTS[1][:100], 4, SAMPLING))
    assert sum(drafter.costs_s()) == pytest.approx(0.01 * (4 + 100 * FEED_SHARE))
    (result,) = drafter.step()
    assert result.draft_us == round(1e4 * (4 + 100 * FEED_SHARE))
    drafter.start(DraftRequest("s", TEXTS[1][:103], 4, SAMPLING))
    assert sum(drafter.costs_s()) == pytest.approx(0.04)


def test_sessions_wait_for_each_other_and_are_bounded() -> None:
    drafter = ReplayDrafter(RECORDINGS, 1.0, draft_ms=10, seed=1, capacity=2)
    for session in ("a", "b"):
        drafter.start(DraftRequest(session, TEXTS[1][:50], 2, SAMPLING))
    with pytest.raises(NoCapacity):
        drafter.start(DraftRequest("c", TEXTS[1][:50], 2, SAMPLING))
    assert [result.session for result in drafter.step()] == ["a"]
    drafter.forget("b")
    assert drafter.step() == []


def test_a_text_that_nobody_recorded_is_drafted_wrong_and_its_end_is_passed() -> None:
    drafter = ReplayDrafter(RECORDINGS, 1.0, draft_ms=0, seed=1)
    drafter.start(DraftRequest("s", (1, 2, 3), 3, SAMPLING))
    assert drafter.step()[0].tokens == (0, 0, 0)
    assert draft(drafter, 1, 998, 4, "t") == (3998, 3999, 0, 0)
