"""Radio cells: who gets which share when, what waits for its turn, and who does not keep its share."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan

import pytest

from services.scheduler.effects import ReportShares
from shared.protocol.limits import MAX_RATE_BITS_S
from shared.protocol.messages import Control, Heartbeat, Open, Share
from shared.protocol.sizes import open_bytes
from tests.services.scheduler.desk import Desk, beat

BANDS = {"c1": 100_000.0}


def device(address: str, eta: float = 1.0, cell: str = "c1", payload_bits: int = 0) -> Heartbeat:
    return replace(beat("draft_worker", address), cell=cell, eta=eta, payload_bits=payload_bits)


def desk(rule: str = "minmax", devices: Sequence[Heartbeat] = (), policy: str = "fixed-k") -> Desk:
    return Desk(policy, bands=BANDS, bandwidth=rule, devices=devices or (device("a:1"), device("b:1", 0.25)))


def shares(at: Desk) -> dict[str, int]:
    """Shares sent in the last tick, in bit/s."""
    return {to: message.bits_s for to, message in at.sent(Share) if isinstance(message, Share)}


def test_devices_get_shares_as_they_come_and_again_when_one_leaves() -> None:
    at = desk("uniform")
    assert shares(at) == {"a:1": 50_000, "b:1": 12_500}
    assert at.did(ReportShares) == [ReportShares({"a": "50000 0", "b": "12500 0"})]
    at.tick(2.0)
    assert not at.did(ReportShares)
    assert shares(at) == {}
    at.now += 1.0
    at.fleet(devices=[device("a:1"), device("b:1", 0.25), device("c:1", 2.0)])
    assert shares(at) == {"a:1": 33_333, "b:1": 8_333, "c:1": 66_667}
    at.now += 1.0
    at.fleet(devices=[device("a:1"), device("c:1", 2.0)])
    assert shares(at) == {"a:1": 50_000, "c:1": 100_000}
    assert (
        at.metrics.registry.get_sample_value(
            "outrider_scheduler_device_share_bits_per_second", {"device": "b"}
        )
        is None
    )


def test_another_incarnation_is_given_its_share_again() -> None:
    at = desk("uniform")
    at.now += 1.0
    at.fleet(devices=[device("a:2"), device("b:1", 0.25)])
    assert shares(at) == {"a:2": 50_000}


def test_a_link_that_changes_changes_the_shares() -> None:
    at = desk("fair")
    assert shares(at) == {"a:1": 20_000, "b:1": 20_000}
    at.now += 1.0
    at.fleet(devices=[device("a:1"), device("b:1", 1.0)])
    assert shares(at) == {"a:1": 50_000, "b:1": 50_000}


def test_minmax_follows_what_is_still_to_be_carried() -> None:
    at = desk("minmax", devices=[device("a:1"), device("b:1")])
    at.submit("short", prompt=10, tokens=10, device="a")
    at.submit("long", prompt=1000, tokens=200, device="b")
    at.tick(0.2)
    given = shares(at)
    assert given["b:1"] > 5 * given["a:1"]
    assert sum(given.values()) == pytest.approx(100_000, rel=0.02)


def test_what_drafts_carry_beside_ids_counts() -> None:
    at = desk("minmax", devices=[device("a:1", payload_bits=10_000), device("b:1")])
    at.submit("x", tokens=100, device="a")
    at.submit("y", tokens=100, device="b")
    at.tick(0.2)
    given = shares(at)
    assert given["a:1"] > 10 * given["b:1"]


def test_shares_are_sent_a_few_times_a_second_at_most() -> None:
    at = desk("minmax")
    sent = 0
    for n in range(40):
        at.submit(f"s{n}", prompt=10 * n + 1, tokens=30, device="ab"[n % 2])
        sent += bool(shares(at))
        at.tick(0.05)
        sent += bool(shares(at))
    assert 1 <= sent <= 20


def test_a_second_prompt_waits_until_the_first_is_carried_and_its_session_runs_without_drafts() -> None:
    at = desk("uniform", devices=[device("a:1")])
    at.submit("first", prompt=1000, device="a")
    assert [to for to, _ in at.sent(Open)] == ["a:1"]
    (chunk,) = at.rows
    at.submit("second", prompt=20, device="a")
    assert not at.sent(Open)
    at.take(at.prefilled(chunk))
    assert at.row("second").device == ""
    assert not at.session("second").caught_up
    at.tick(8 * open_bytes(1000) / 100_000)
    ((to, message),) = at.sent(Open)
    assert (to, message.session) == ("a:1", "second")  # type: ignore[union-attr]  # an Open
    at.take(at.resync("second", "ready"))
    assert at.session("second").caught_up


def test_a_session_that_ends_while_it_waits_is_never_opened() -> None:
    at = desk("uniform", devices=[device("a:1")])
    at.submit("first", prompt=1000, device="a")
    at.submit("second", prompt=20, device="a", deadline_ms=10)
    at.tick(0.1)
    at.tick(5.0)
    assert not at.sent(Open)


def test_without_a_cell_nothing_waits_and_nobody_gets_a_share() -> None:
    at = desk("uniform", devices=[device("a:1", cell="elsewhere"), device("b:1", cell="")])
    at.submit("x", prompt=1000, device="a")
    at.submit("y", prompt=1000, device="a")
    assert len(at.session("x").device) == len(at.session("y").device) == 3
    assert not shares(at)
    assert not at.session("y").opening


def test_a_policy_may_bring_its_own_rule_and_takes_it_away_again() -> None:
    at = desk("policy", policy="outrider-latency")
    assert set(shares(at)) == {"a:1", "b:1"}
    at.take(Control("fixed-k", 4))
    assert shares(at) == {"a:1": MAX_RATE_BITS_S, "b:1": MAX_RATE_BITS_S}
    at.tick(5.0)
    assert not shares(at)


@pytest.mark.parametrize("eta", [0.0, -3.0, nan, inf, 1e9])
def test_an_absurd_rate_is_counted_and_treated_as_the_slowest_seen(eta: float) -> None:
    at = desk("fair", devices=[device("a:1"), device("b:1", 0.25), device("x:1", eta)])
    assert at.count("absurd_estimates", where="eta") >= 1
    given = shares(at)
    assert given["x:1"] == given["b:1"] == given["a:1"]  # fair: the same rate, each at its own width


def test_who_sends_more_than_its_share_for_five_seconds_is_counted() -> None:
    at = desk("uniform", devices=[device("a:1"), device("b:1")])
    at.start("s", "t", tokens=10_000)
    honest, greedy = (at.session(name).device for name in ("s", "t"))
    assert honest != greedy
    for _ in range(60):  # 50 kbit/s is 625 bytes in a tenth of a second
        at.now += 0.1
        at.take(replace(at.draft("s"), round=99), size=500)
        at.take(replace(at.draft("t"), round=99), size=1500)
    assert at.count("share_exceeded", device=greedy[0]) == 1
    assert at.count("share_exceeded", device=honest[0]) == 0
    assert at.core._state.cells.report()[greedy[0]].endswith(" 1")
