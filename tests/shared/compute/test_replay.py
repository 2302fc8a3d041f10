"""The replay drafter: recorded tokens at the set acceptance rate and speed."""

import pytest

from shared.compute.drafter import DraftRequest, NoCapacity
from shared.compute.modelled import Chain, choose
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.replay import FEED_SHARE, Recordings, ReplayDrafter
from shared.speculative.params import SamplingParams

TEXTS = (tuple(range(10, 2010)), tuple(range(3000, 4000)))
RECORDINGS = Recordings(TEXTS, "hash", 5000)
SAMPLING = SamplingParams(seed=3, vocab=5000)


def draft(
    drafter: ReplayDrafter,
    text: int,
    base: int,
    k: int,
    session: str = "s",
    sampling: SamplingParams = SAMPLING,
) -> tuple[int, ...]:
    drafter.start(DraftRequest(session, TEXTS[text][:base], k, sampling))
    (result,) = drafter.step()
    assert result.base_len == base
    assert not drafter.busy()
    return result.tokens


def test_right_as_often_as_told_and_wrong_otherwise() -> None:
    drafter = ReplayDrafter(RECORDINGS, alpha=0.78, draft_ms=5)
    tokens = draft(drafter, 0, 100, 1800)
    right = [token == truth for token, truth in zip(tokens, TEXTS[0][100:], strict=False)]
    assert sum(right) / len(right) == pytest.approx(0.78, abs=0.03)


def test_its_luck_is_the_request_s_seed_and_the_positions_alone() -> None:
    one, other = ReplayDrafter(RECORDINGS, 0.5, 5), ReplayDrafter(RECORDINGS, 0.5, 9)
    whole = draft(one, 0, 100, 64, "a")
    assert draft(one, 0, 132, 32, "b") == whole[32:]
    assert draft(other, 0, 100, 64) == whole
    assert draft(other, 0, 100, 64, "c", SamplingParams(seed=4, vocab=5000)) != whole


def test_its_luck_is_that_of_the_modelled_drafter() -> None:
    """So a simulation of the same requests accepts at the same positions."""
    alpha, seed, modelled = 0.7, 11, ModelledDrafter(0.7, vocab=5000)
    sampling = SamplingParams(seed, vocab=5000)
    tokens = draft(ReplayDrafter(RECORDINGS, alpha, 5), 0, 100, 64, sampling=sampling)
    modelled.start(DraftRequest("s", tuple(range(100)), 64, sampling))
    while not (results := modelled.step()):
        pass
    truth, chain = TEXTS[0][100:164], Chain(range(100))
    for at, (ours, theirs) in enumerate(zip(tokens, results[0].tokens, strict=True)):
        assert (ours == truth[at]) == (theirs == choose(chain.states[-1], sampling)), at
        chain.feed([theirs])


@pytest.mark.parametrize("prompt", [1, 40, 64, 65, 200])
def test_it_takes_as_long_as_the_modelled_drafter(prompt: int) -> None:
    """A prompt in chunks, then drafts of which some or all were accepted."""
    replay = ReplayDrafter(RECORDINGS, 1.0, draft_ms=10)
    modelled = ModelledDrafter(1.0, draft_ms=10, feed_share=FEED_SHARE, vocab=5000)
    ids, texts = (TEXTS[0][:prompt], tuple(range(prompt))), Chain(range(prompt))
    for accepted in (4, 2, 0, 4):
        replay.start(DraftRequest("s", ids[0], 4, SAMPLING))
        modelled.start(DraftRequest("s", ids[1], 4, SAMPLING))
        (ours,) = replay.step()
        while not (theirs := modelled.step()):
            pass
        assert ours.draft_us == pytest.approx(theirs[0].draft_us, abs=1)
        texts.feed([*theirs[0].tokens[:accepted], 4999])  # the corrected or bonus token
        ids = (*ids[0], *ours.tokens[:accepted], 4999), tuple(texts.tokens)


def test_it_is_as_sure_as_its_rate_and_stops_there() -> None:
    drafter = ReplayDrafter(RECORDINGS, 0.5, draft_ms=10)
    draft(drafter, 0, 100, 1)
    drafter.start(DraftRequest("s", TEXTS[0][:101], 16, SAMPLING, stop_below=60))
    assert sum(drafter.costs_s()) == pytest.approx(0.03)
    (result,) = drafter.step()
    assert (len(result.tokens), list(result.survival)) == (3, [128, 64, 32])


def test_sessions_wait_for_each_other_and_are_bounded() -> None:
    drafter = ReplayDrafter(RECORDINGS, 1.0, draft_ms=10, capacity=2)
    for session in ("a", "b"):
        drafter.start(DraftRequest(session, TEXTS[1][:50], 2, SAMPLING))
    with pytest.raises(NoCapacity):
        drafter.start(DraftRequest("c", TEXTS[1][:50], 2, SAMPLING))
    assert [result.session for result in drafter.step()] == ["a"]
    drafter.forget("b")
    assert drafter.step() == []


def test_a_text_that_nobody_recorded_is_drafted_wrong_and_its_end_is_passed() -> None:
    drafter = ReplayDrafter(RECORDINGS, 1.0, draft_ms=0)
    drafter.start(DraftRequest("s", (1, 2, 3), 3, SAMPLING))
    assert drafter.step()[0].tokens == (0, 0, 0)
    assert draft(drafter, 1, 998, 4, "t") == (3998, 3999, 0, 0)
