"""Estimates converge to the true value and follow its changes."""

import random

import pytest

from shared.planning.cost import Packed, Padded
from shared.planning.estimates import Acceptance, DeviceEstimate, Mean, VerifyCost, WindowMin


def test_alpha_is_accepted_over_accepted_and_rejected_rounds() -> None:
    acceptance = Acceptance(prior_weight=0.0, decay=1.0)
    for drafted, accepted in [(4, 4), (4, 1), (4, 0), (0, 0), (3, 3)]:
        acceptance.observe(drafted, accepted)
    assert acceptance.alpha == pytest.approx(8 / (8 + 2))


def test_alpha_starts_from_the_prior_and_follows_a_change() -> None:
    acceptance = Acceptance()
    assert acceptance.alpha == pytest.approx(0.7)
    draw = random.Random(1)  # not secrets
    for true_alpha in (0.9, 0.4):
        for _ in range(400):
            accepted = next((i for i in range(4) if draw.random() > true_alpha), 4)
            acceptance.observe(4, accepted)
        assert acceptance.alpha == pytest.approx(true_alpha, abs=0.08)


def test_a_mean_takes_the_first_value_and_then_fades() -> None:
    mean = Mean(99.0, weight=0.5)
    mean.observe(4.0)
    assert mean.value == 4.0
    mean.observe(8.0)
    assert mean.value == 6.0


def test_a_window_minimum_follows_a_link_that_became_longer() -> None:
    shortest = WindowMin()
    assert shortest.value is None
    for value in (5.0, 3.0, 4.0):
        shortest.observe(value)
    assert shortest.value == 3.0
    for _ in range(2 * WindowMin.WINDOW):
        shortest.observe(7.0)
    assert shortest.value == 7.0


def test_the_delay_of_a_link_excludes_queueing() -> None:
    device, draw = DeviceEstimate(), random.Random(3)
    for _ in range(200):
        device.observe(4, 0.040, 0.040 + 0.060 + draw.expovariate(1 / 0.020))
    assert device.delay_s.value == pytest.approx(0.060, rel=0.05)
    assert device.link_s.value == pytest.approx(0.080, rel=0.2)


def test_a_draft_after_tokens_that_its_device_had_to_read_tells_of_the_link_alone() -> None:
    device = DeviceEstimate()
    device.observe(tokens=4, draft_s=0.040, turnaround_s=0.046)
    device.observe(tokens=1, draft_s=0.080, turnaround_s=0.088, reading=True)
    assert device.draft_s.value == pytest.approx(0.010)
    assert 0.006 < device.link_s.value < 0.008


def test_a_turnaround_is_drafting_plus_link() -> None:
    device = DeviceEstimate()
    device.observe(tokens=4, draft_s=0.040, turnaround_s=0.046)
    device.observe(tokens=0, draft_s=9.0, turnaround_s=9.0)  # says nothing
    assert device.turnaround_s(4) == pytest.approx(0.046)
    assert device.turnaround_s(8) == pytest.approx(0.086)


def test_verify_cost_is_fitted() -> None:
    law, fit, draw = Packed(20.0, 1.5, 0.01), VerifyCost(), random.Random(2)
    assert fit.law() is None
    for _ in range(60):
        rows = [(draw.randint(1, 9), draw.randint(10, 900)) for _ in range(draw.randint(1, 8))]
        fit.observe(rows, law.cost_ms(rows) * draw.uniform(0.98, 1.02))
    fitted = fit.law()
    assert fitted is not None
    rows = [(5, 300)] * 6
    assert fitted.cost_ms(rows) == pytest.approx(law.cost_ms(rows), rel=0.05)


def test_the_fitted_law_has_no_negative_coefficient() -> None:
    fit = VerifyCost()
    for tokens in (1, 2, 3, 4, 5, 6, 7, 8):
        fit.observe([(tokens, 10)], 50.0 - tokens)  # longer rows cheaper: noise, as far as a law goes
    law = fit.law()
    assert law is not None
    assert min(law.beta_ms, law.per_token_ms, law.per_context_ms) >= 0
    assert law.cost_ms([(4, 10)]) == pytest.approx(45.5, rel=0.05)


def test_equal_passes_scale_the_prior() -> None:
    prior, truth = Packed(50.0, 1.2, 0.004), Packed(75.0, 1.8, 0.006)  # the same machine, half as fast again
    fit = VerifyCost(prior)
    assert fit.expected() == prior
    for _ in range(40):
        fit.observe([(4, 200)] * 10, truth.cost_ms([(4, 200)] * 10))
    law = fit.expected()
    for rows in ([(1, 200)] * 2, [(9, 400)] * 14):
        assert law.cost_ms(rows) == pytest.approx(truth.cost_ms(rows), rel=0.03)


def test_arrivals_are_priced_once_there_are_passes_without_arrivals() -> None:
    law = Packed(50.0, 1.3)
    fit = VerifyCost(Packed(45.0, 1.2))
    for n in range(60):
        rows = [(4, 100)] * (6 + n % 2)
        fit.observe(rows, law.cost_ms(rows) + 7 * 0.8, arrivals=7)
    for n in range(20):
        rows = [(1, 100)] * (13 + n % 2)
        fit.observe(rows, law.cost_ms(rows))
    for n in range(200):
        rows = [(4, 100)] * (6 + n % 2)
        fit.observe(rows, law.cost_ms(rows) + 7 * 0.8, arrivals=7)
    assert fit.expected().cost_ms([(1, 100)] * 14) == pytest.approx(law.cost_ms([(1, 100)] * 14), rel=0.02)
    assert fit.arrival_ms == pytest.approx(0.8, rel=0.3)


def test_a_pass_without_a_time_is_ignored() -> None:
    fit = VerifyCost()
    for _ in range(10):
        fit.observe([(5, 100)], 0.0)
    assert fit.law() is None


def test_a_device_s_spread_is_about_the_standard_deviation() -> None:
    device, draw = DeviceEstimate(), random.Random(3)
    for _ in range(400):
        device.observe(4, 0.04, 0.04 + 0.01 + draw.expovariate(1 / 0.03))
    assert device.link_s.value == pytest.approx(0.04, rel=0.5)
    assert device.spread_s.value == pytest.approx(0.03, rel=0.5)


@pytest.mark.parametrize("draft_s", [-1.0, 1e6])
def test_a_reported_draft_time_beyond_the_turnaround_is_refused(draft_s: float) -> None:
    device = DeviceEstimate()
    with pytest.raises(ValueError, match="of drafting in"):
        device.observe(4, draft_s, 0.05)
    assert 0 <= device.draft_s.value <= 0.05 / 4
    assert 0 <= device.link_s.value <= 0.05


@pytest.mark.parametrize(("draft_s", "link_s"), [(-1.0, 0.01), (1e6, 0.01), (0.01, -1.0), (0.01, 1e6)])
def test_impossible_figures_of_a_device_are_refused(draft_s: float, link_s: float) -> None:
    device = DeviceEstimate()
    with pytest.raises(ValueError, match="s a token"):
        device.expect(draft_s, link_s)
    assert (device.draft_s, device.link_s) == (DeviceEstimate().draft_s, DeviceEstimate().link_s)


def test_a_device_report_counts_until_the_first_observation() -> None:
    device = DeviceEstimate()
    device.expect(0.02, 0.03)
    assert (device.draft_s.value, device.link_s.value) == (0.02, 0.03)
    device.observe(4, 0.04, 0.05)
    device.expect(0.02, 0.03)
    assert (device.draft_s.value, device.link_s.value) == (pytest.approx(0.01), pytest.approx(0.01))


@pytest.mark.parametrize("far_s", [0.2, 0.005])
def test_a_link_that_changes_is_followed_without_drafts(far_s: float) -> None:
    """Drafts take 10 ms longer than the report says. One odd report is noise, two are a change."""
    device = DeviceEstimate()
    for _ in range(5):
        device.expect(0.01, 0.02)
        device.observe(4, 0.04, 0.04 + 0.03)
    device.expect(0.01, far_s)
    assert device.link_s.value == pytest.approx(0.03)
    device.expect(0.01, 0.02)
    assert device.link_s.value == pytest.approx(0.03)
    for _ in range(2):
        device.expect(0.01, far_s)
    assert device.link_s.value == pytest.approx(far_s + 0.01)


def test_drafts_over_a_changed_link_do_not_count_twice() -> None:
    device = DeviceEstimate()
    for _ in range(5):
        device.expect(0.01, 0.02)
        device.observe(4, 0.04, 0.04 + 0.02)
    for _ in range(2):
        device.expect(0.01, 0.2)
        for _ in range(4):
            device.observe(4, 0.04, 0.04 + 0.2)
    assert device.link_s.value == pytest.approx(0.2)


def test_reports_that_vary_a_little_change_nothing() -> None:
    device = DeviceEstimate()
    device.expect(0.01, 0.045)
    device.observe(4, 0.04, 0.04 + 0.05)
    for report_s in (0.04, 0.05, 0.045, 0.05, 0.04):
        device.expect(0.01, report_s)
    assert device.link_s.value == pytest.approx(0.05)


def test_a_session_can_start_from_the_alpha_of_others() -> None:
    acceptance = Acceptance(0.9)
    assert acceptance.alpha == pytest.approx(0.9)
    acceptance.observe(1, 0)
    assert 0.8 < acceptance.alpha < 0.9


def test_the_law_fits_passes_of_one_shape() -> None:
    fit = VerifyCost()
    for _ in range(10):
        fit.observe([(5, 100)] * 4, 80.0)
    law = fit.law()
    assert law is not None
    assert law.cost_ms([(5, 100)] * 4) == pytest.approx(80.0, rel=0.01)


# DiP-SD's server: Qwen3-32B on an A100, prefix 512.
DIP_SD = Padded(beta_ms=95.1074, ms_per_operation=1.2077e-11, layers=64, hidden=5120, feed_forward=25600)


@pytest.mark.parametrize(("tokens", "ms"), [(1, 95.682852), (7, 99.136230)])
def test_the_padded_law_is_the_papers(tokens: int, ms: float) -> None:
    assert DIP_SD.cost_ms([(tokens, 512)]) == pytest.approx(ms, abs=1e-6)


def test_padding_costs_and_packing_does_not() -> None:
    mixed, equal = [(1, 512), (7, 512)], [(7, 512), (7, 512)]
    assert DIP_SD.cost_ms(mixed) == DIP_SD.cost_ms(equal)
    packed = Packed(20.0, 1.0, 0.1)
    assert packed.cost_ms(equal) - packed.cost_ms(mixed) == pytest.approx(6.0)
    assert packed.cost_ms([]) == DIP_SD.cost_ms([]) == 0.0


def test_passes_of_a_few_tokens_do_not_spoil_the_law_of_the_others() -> None:
    """On a CPU such passes run other code, here in two thirds of the time of the law."""
    law = Packed(50.0, 1.3, 0.003)
    costs = VerifyCost(law)
    for turn in range(400):
        cached = 150 + turn % 200
        costs.observe([(1, cached)], 0.66 * law.cost_ms([(1, cached)]))
        many = [(1 + turn % 3, cached)] * 14
        costs.observe(many, law.cost_ms(many))
    shape = [(4, 300)] * 14
    assert costs.expected().cost_ms(shape) == pytest.approx(law.cost_ms(shape), rel=0.01)


def test_passes_of_a_few_tokens_make_a_law_where_there_are_no_others() -> None:
    costs = VerifyCost()
    for _ in range(30):
        costs.observe([(1, 200)], 20.0)
    assert costs.expected().cost_ms([(1, 200)]) == pytest.approx(20.0, rel=0.02)
