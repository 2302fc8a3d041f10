"""What the scheduler learns of a device's link from rounds of different sizes."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from services.scheduler.device_gauges import DeviceGauges
from shared.protocol.messages import Draft
from shared.protocol.sizes import verdict_bytes
from shared.protocol.wire import encode
from tests.services.scheduler.desk import Desk

RATE_BITS_S, DELAY_S = 8000.0, 0.03


def play(
    rounds: int, draft_us: Callable[[int], int], link_s: Callable[[int], float], accepts: bool = True
) -> Desk:
    """A session whose drafts have one to eight tokens. draft_us: by tokens, as the device says; link_s: by bytes.

    accepts: verdicts carry more or fewer tokens; otherwise one each.
    """
    at = Desk("fixed-k", k=8)
    at.start("s", tokens=10_000)
    emitted = 1
    for n in range(rounds):
        tokens = 1 + (5 * n) % 8
        draft: Draft = at.draft("s", tokens=tokens, draft_us=draft_us(tokens))
        size = round(verdict_bytes(emitted)) + len(encode(draft))
        at.now += 0.010 * tokens + link_s(size)
        at.take(draft)
        emitted = 1 + n % (tokens + 1) if accepts else 1
        at.take(at.verdict(at.row("s"), emitted=emitted, accepted=emitted - 1))
    return at


def gauge(at: Desk, name: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(DeviceGauges(at.core.devices))
    return registry.get_sample_value(f"outrider_scheduler_device_{name}", {"device": "d"})


def test_delay_and_rate_are_learnt_apart() -> None:
    at = play(40, lambda tokens: 10_000 * tokens, lambda size: DELAY_S + 8 * size / RATE_BITS_S)
    assert gauge(at, "rate_bits_per_second") == pytest.approx(RATE_BITS_S, rel=0.02)
    assert gauge(at, "fixed_seconds") == pytest.approx(DELAY_S, abs=0.005)
    device = at.core.devices()["d"]
    assert device.comm_s(2000) == pytest.approx(DELAY_S + 2.0, rel=0.05)
    assert at.count("absurd_estimates", where="rate") == 0


def test_a_link_whose_rate_does_not_matter_has_none() -> None:
    at = play(40, lambda tokens: 10_000 * tokens, lambda _: DELAY_S)
    assert gauge(at, "rate_bits_per_second") is None
    assert gauge(at, "fixed_seconds") == pytest.approx(DELAY_S)
    assert at.core.devices()["d"].rate_bits_s == float("inf")


def test_a_rate_that_cannot_be_true_is_counted_and_replaced_by_the_slowest_seen() -> None:
    """The device hides its link in its computing, the more the longer its drafts are."""
    at = play(80, lambda tokens: 10_000 * tokens + 2000 * tokens, lambda _: 0.05, accepts=False)
    assert at.count("absurd_estimates", where="rate") > 0
    assert at.count("absurd_estimates", where="draft") == 0
    at.core._state.estimates.rates.take("other", 5000.0)
    assert at.core._state.estimates.rates.bits_s("d") == 5000.0
    assert at.core.devices()["d"].comm_s(2000) == at.core.devices()["d"].link_s.value
