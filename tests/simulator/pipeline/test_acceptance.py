"""Modelled text has the distribution that it says, and depends on seed and prefix alone."""

from math import exp
from statistics import mean

import pytest

from simulator.pipeline.acceptance import CANDIDATES, ModelledText


def prefixes(text: ModelledText, count: int) -> list[int]:
    """Keys along the target's own path."""
    key, found = text.start(), []
    for token in text.sequential(count):
        found.append(key)
        key = text.extend(key, token)
    return found


@pytest.mark.parametrize("p1", [0.6, 0.75, 0.85])
def test_candidates_are_right_as_often_as_they_are_confident(p1: float) -> None:
    text = ModelledText(1, p1)
    keys = prefixes(text, 6000)
    first, second, missed = [], [], []
    for key in keys:
        tokens = [token for token, _ in text.candidates(key, CANDIDATES)]
        own = text.own_token(key)
        first.append(own == tokens[0])
        second.append(own == tokens[1])
        missed.append(own not in tokens)
    assert mean(map(text.confidence, keys)) == pytest.approx(p1, abs=0.02)
    assert mean(first) == pytest.approx(p1, abs=0.02)
    assert mean(second) == pytest.approx(0.4 * (1 - p1), abs=0.015)
    assert mean(missed) == pytest.approx(0.2 * (1 - p1), abs=0.012)


def test_candidates_are_distinct_and_fall_in_probability() -> None:
    text = ModelledText(3, 0.75)
    for key in prefixes(text, 50):
        found = text.candidates(key, CANDIDATES)
        assert len({token for token, _ in found}) == CANDIDATES
        logprobs = [logprob for _, logprob in found]
        assert logprobs == sorted(logprobs, reverse=True)
        assert sum(map(exp, logprobs)) < 1.0


def test_a_prefix_asked_twice_answers_the_same() -> None:
    one, again, other = ModelledText(5, 0.6), ModelledText(5, 0.6), ModelledText(6, 0.6)
    assert one.sequential(40) == again.sequential(40) != other.sequential(40)
    key = one.extend(one.start(), 123)  # off the path
    assert one.candidates(key, 3) == again.candidates(key, 10)[:3]


@pytest.mark.parametrize("p1", [0.3, 1.0])
def test_p1_has_bounds(p1: float) -> None:
    with pytest.raises(ValueError, match="p1"):
        ModelledText(1, p1)
