"""The token bucket: what may leave when, for rates that change, and without a rate."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cells.token_bucket import TokenBucket


def test_a_message_leaves_at_once_and_the_next_one_when_it_is_paid_for() -> None:
    bucket = TokenBucket(100.0)
    assert bucket.free_at(5.0) == 5.0
    bucket.take(50.0, 5.0)
    assert bucket.free_at(5.0) == pytest.approx(5.5)
    assert bucket.owed_bits(5.2) == pytest.approx(30.0)
    assert bucket.free_at(9.0) == 9.0


def test_a_new_rate_counts_from_then_on() -> None:
    bucket = TokenBucket(100.0)
    bucket.take(100.0, 0.0)
    bucket.set_rate(10.0, 0.5)
    assert bucket.free_at(0.5) == pytest.approx(5.5)
    bucket.set_rate(inf, 1.0)
    assert bucket.free_at(1.0) == 1.0
    assert bucket.owed_bits(1.0) == 0.0


def test_without_a_rate_nothing_is_owed() -> None:
    bucket = TokenBucket()
    bucket.take(1e12, 3.0)
    assert bucket.free_at(3.0) == 3.0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_would_stop_everything_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="give more than 0"):
        TokenBucket().set_rate(rate, 0.0)


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(1.0, 500.0)), min_size=1, max_size=40))
def test_what_has_left_is_never_more_than_the_rate_and_one_message(
    messages: list[tuple[float, float]],
) -> None:
    bucket, now, left = TokenBucket(100.0), 0.0, 0.0
    for pause, bits in messages:
        now = bucket.free_at(now + pause)
        assert left <= 100.0 * now + 500.0 + 1e-6
        bucket.take(bits, now)
        left += bits
