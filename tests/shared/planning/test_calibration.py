"""Calibration: what survival bytes turn out to be worth."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.planning.calibration import BIN, BINS, FADE_AT, OWN_WORD, Calibration, monotone
from shared.planning.estimates import DeviceEstimate


def after(drafts: int, byte: int, share: float) -> Calibration:
    """After drafts of one token with this byte, of which this share was accepted."""
    calibration = Calibration()
    for n in range(drafts):
        calibration.observe((byte,), int((n * 7) % 100 < 100 * share))
    return calibration


def test_before_anything_is_seen_a_device_is_taken_at_its_word() -> None:
    curve = Calibration().curve
    assert curve == OWN_WORD
    assert curve[0] == pytest.approx(0.03, abs=0.01)
    assert curve[-1] == pytest.approx(0.97, abs=0.01)


def test_one_that_is_too_sure_of_itself_is_corrected() -> None:
    curve = after(800, byte=240, share=0.5).curve
    assert curve[240 // BIN] == pytest.approx(0.5, abs=0.02)
    assert curve[240 // BIN - 1] <= curve[240 // BIN]  # nobody who was less sure counts for more


def test_every_token_of_a_draft_counts_with_all_before_it() -> None:
    calibration = Calibration()
    for _ in range(160):
        calibration.observe((250, 130, 20), 1)  # the first survives, the others do not
    curve = calibration.curve
    assert curve[250 // BIN] > 0.95
    assert curve[130 // BIN] < 0.1
    assert curve[20 // BIN] < 0.05


def test_how_much_too_sure_a_device_is() -> None:
    tokens, excess = after(500, byte=247, share=0.5).excess()
    assert (tokens, excess / tokens) == (500, pytest.approx(247 / 255 - 0.5, abs=0.01))
    estimate = DeviceEstimate()
    assert estimate.overconfidence is None
    for _ in range(10):
        estimate.calibration(0.0).observe((247,), 1)
        estimate.calibration(0.9).observe((247,), 0)
    assert estimate.overconfidence == pytest.approx(247 / 255 - 0.5, abs=0.01)


def test_it_follows_a_change() -> None:
    calibration = after(2 * int(FADE_AT), byte=200, share=1.0)
    for _ in range(2 * int(FADE_AT)):
        calibration.observe((200,), 0)
    assert calibration.curve[200 // BIN] < 0.35


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=BINS))
def test_monotone_never_falls_keeps_the_mean_and_what_is_in_order(pairs: list[tuple[float, float]]) -> None:
    values, weights = zip(*pairs, strict=True)
    fitted = monotone(values, weights)
    assert list(fitted) == sorted(fitted)
    total = sum(weight * value for value, weight in pairs)
    assert sum(w * f for w, f in zip(weights, fitted, strict=True)) == pytest.approx(total)
    assert monotone(sorted(values), weights) == pytest.approx(tuple(sorted(values)))


def test_monotone_pools_neighbours() -> None:
    assert monotone((0.1, 0.6, 0.2, 0.9), (1, 1, 3, 1)) == pytest.approx((0.1, 0.3, 0.3, 0.9))


def test_a_calibrated_device_stays_as_it_is() -> None:
    rng, calibration = random.Random(1), Calibration()
    for _ in range(4000):
        byte = rng.randrange(256)
        calibration.observe((byte,), int(rng.random() < byte / 255))
    assert calibration.curve == pytest.approx(OWN_WORD, abs=0.08)
