"""Delay and rate of a link from rounds of different sizes, and what cannot be true."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.planning.estimates import DeviceEstimate
from shared.planning.link_fit import FIRST_FIT, OBSERVATIONS, LinkFit, fitted
from shared.planning.link_rates import MAX_BITS_S, MIN_BITS_S, LinkRates


def rounds(rng: np.random.Generator, count: int = OBSERVATIONS) -> np.ndarray:
    return rng.integers(120, 400, count).astype(float)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.floats(1e3, 1e7), st.integers(0, 1000))
def test_a_link_without_jitter_is_found_exactly(delay_s: float, bits_s: float, seed: int) -> None:
    sizes = rounds(np.random.default_rng(seed))
    law = fitted(sizes, delay_s + 8 * sizes / bits_s)
    assert law.bits_s == pytest.approx(bits_s, rel=1e-6)
    assert law.delay_s == pytest.approx(delay_s, abs=1e-9)
    assert law.comm_s(1000) == pytest.approx(delay_s + 8000 / bits_s)


@pytest.mark.parametrize("seed", range(20))
def test_jitter_and_outliers_do_not_move_it_far(seed: int) -> None:
    """8 kbit/s and a mean jitter of 20 ms, while a fifth of the rounds lost a message."""
    rng = np.random.default_rng(seed)
    sizes = rounds(rng)
    seconds = 0.05 + 8 * sizes / 8000 + rng.exponential(0.02, len(sizes))
    seconds[rng.random(len(sizes)) < 0.2] += 0.2
    law = fitted(sizes, seconds)
    assert law.bits_s == pytest.approx(8000, rel=0.15)
    assert law.delay_s == pytest.approx(0.065, abs=0.045)


def test_on_a_fast_link_jitter_makes_no_rate() -> None:
    """10 Mbit/s: 0.2 ms between the largest and the smallest, below 20 ms of jitter."""
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sizes = rounds(rng)
        found.append(fitted(sizes, 0.03 + 8 * sizes / 1e7 + rng.exponential(0.02, len(sizes))))
    assert all(law.s_per_byte >= 0 for law in found)  # nobody is accused
    assert sum(law.s_per_byte > 0 for law in found) <= 3  # 0.13 % of 200, by chance
    assert all(law.delay_s == pytest.approx(0.045, abs=0.015) for law in found if not law.s_per_byte)


def test_messages_of_one_size_say_nothing_of_the_rate() -> None:
    law = fitted(np.full(20, 200.0), np.linspace(0.1, 0.2, 20))
    assert (law.bits_s, law.delay_s) == (inf, pytest.approx(0.15))
    assert fitted(np.array([100.0]), np.array([0.1])).delay_s == 0.1


def test_a_fit_follows_a_change_and_stays_small() -> None:
    fit, rng = LinkFit(), np.random.default_rng(1)
    assert fit.law is None
    news = [fit.observe(size, 8 * size / 8000) for size in rounds(rng, 200)]
    assert [n + 1 for n, new in enumerate(news) if new] == [8, 16, 32, 64, 128, 192]
    for size in rounds(rng, 2 * OBSERVATIONS):
        fit.observe(size, 8 * size / 80_000)
    assert fit.law is not None
    assert fit.law.bits_s == pytest.approx(80_000)
    assert len(fit._seen) == OBSERVATIONS


def test_a_device_that_hides_its_link_in_its_computing_has_a_negative_rate() -> None:
    """It says that it computed the longer, the longer the draft: what is left for the link falls."""
    device = DeviceEstimate()
    for n in range(OBSERVATIONS):
        tokens = 1 + n % 8
        device.observe(tokens, 0.1 * tokens, 1.0, size=100 + 50 * tokens)
    assert device.link.law is not None
    assert device.link.law.bits_s < 0
    with pytest.raises(ValueError, match="bit/s"):
        LinkRates().take("d", device.link.law.bits_s)


def test_predictions_depend_on_the_bytes_where_these_were_seen_to_matter() -> None:
    device = DeviceEstimate()
    for n in range(2 * FIRST_FIT):
        size = 100 + 20 * (n % 7)
        device.observe(4, 0.01, 0.01 + 0.05 + 8 * size / 4000, size=size)
    assert device.comm_s(1000) == pytest.approx(2.05)
    plain = DeviceEstimate()
    for _ in range(2 * FIRST_FIT):
        plain.observe(4, 0.01, 0.11, size=100)
    assert plain.comm_s(1000) == plain.link_s.value == pytest.approx(0.1)


@pytest.mark.parametrize("rate", [nan, 0.0, -3.0, MIN_BITS_S / 2, 2 * MAX_BITS_S, -inf])
def test_an_absurd_rate_counts_as_the_slowest_seen(rate: float) -> None:
    rates = LinkRates()
    with pytest.raises(ValueError, match="bit/s"):
        rates.take("liar", rate)
    assert rates.bits_s("liar") == MIN_BITS_S
    rates.take("slow", 3000.0)
    rates.take("fast", inf)
    assert (rates.bits_s("liar"), rates.bits_s("fast"), rates.bits_s("new")) == (3000.0, inf, None)
    rates.take("liar", 1e6)
    assert rates.bits_s("liar") == 1e6
