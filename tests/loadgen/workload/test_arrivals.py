"""Arrivals: their gaps have the distribution they are named for, and follow the rate."""

from itertools import islice, pairwise

import numpy as np
import pytest

from loadgen.workload.arrivals import ArrivalError, Gaps, RateStage, arrivals, constant_rate, parse_stages


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def gaps_of(kind: Gaps, burstiness: float, rate: float = 4.0, count: int = 5000) -> np.ndarray:
    times = list(islice(arrivals(constant_rate(rate), kind, rng(), burstiness), count))
    return np.diff([0.0, *times])


def test_constant_arrivals_start_at_zero_with_equal_gaps() -> None:
    assert list(islice(arrivals(constant_rate(15.0), "constant", rng()), 4)) == pytest.approx(
        [0, 1 / 15, 2 / 15, 0.2]
    )


@pytest.mark.parametrize(
    ("kind", "burstiness"),
    [("poisson", 1.0), ("gamma", 0.3), ("gamma", 4.0)],
)
def test_gaps_pass_a_kolmogorov_smirnov_test(kind: Gaps, burstiness: float) -> None:
    from scipy import stats  # a second to import, so only where it is used

    law = stats.expon(scale=0.25) if kind == "poisson" else stats.gamma(burstiness, scale=0.25 / burstiness)
    assert stats.kstest(gaps_of(kind, burstiness), law.cdf).pvalue > 0.01


def test_the_test_detects_another_burstiness() -> None:
    """So that the one above can fail."""
    from scipy import stats

    assert stats.kstest(gaps_of("gamma", 0.8), stats.expon(scale=0.25).cdf).pvalue < 0.01


def test_a_ramp_has_the_requests_of_its_mean_rate_mostly_near_its_end() -> None:
    times = list(arrivals((RateStage(10.0, 0.0, 20.0),), "constant", rng()))
    assert len(times) == 100
    assert sum(at < 5.0 for at in times) == 25  # a quarter of the area under it
    assert all(after >= before for before, after in pairwise(times))


def test_stages_follow_each_other_and_may_be_pauses() -> None:
    times = list(arrivals(parse_stages("2:3 0:10 1:2"), "constant", rng()))
    assert times == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 13, 14])


def test_poisson_arrivals_under_a_ramp_are_those_of_the_integrated_rate() -> None:
    """Where N(t) of the arrivals falls is a Poisson process of rate 1."""
    from scipy import stats

    times = np.array(list(arrivals((RateStage(100.0, 0.0, 60.0),), "poisson", rng())))
    assert stats.kstest(np.diff(0.3 * times**2), stats.expon.cdf).pvalue > 0.01


def test_a_seed_fixes_all_arrivals() -> None:
    first, second = (list(islice(arrivals(constant_rate(3.0), "gamma", rng(5), 0.5), 50)) for _ in range(2))
    assert first == second
    assert first != list(islice(arrivals(constant_rate(3.0), "gamma", rng(6), 0.5), 50))


@pytest.mark.parametrize("text", ["5", "5:", "x:3", "-1:3", "5:0", "5:-2", "", "1..:5:6", "nan:3"])
def test_invalid_stages_are_refused(text: str) -> None:
    with pytest.raises(ArrivalError):
        parse_stages(text)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_invalid_rates_are_refused(rate: float) -> None:
    with pytest.raises(ArrivalError, match="rate"):
        constant_rate(rate)


@pytest.mark.parametrize("burstiness", [0.0, -1.0, float("nan")])
def test_an_invalid_burstiness_is_refused(burstiness: float) -> None:
    with pytest.raises(ArrivalError, match="burstiness"):
        next(arrivals(constant_rate(1.0), "gamma", rng(), burstiness))
