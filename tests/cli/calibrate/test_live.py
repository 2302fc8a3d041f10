"""The broker's share, from spans."""

import pytest

from cli.calibrate.live import MIN_CYCLES, at_users, broker_of, cycles
from shared.planning.cost import Packed
from shared.protocol.messages import Span

LAW = Packed(40.0, 1.0, 0.01)
PROMPTS = 60  # tokens of all prompts together


def verify(session: str, batch: int, round_: int, start_ms: float, end_ms: float) -> Span:
    return Span(
        "verifier", "v", session, 1, round_, "verify", round(start_ms * 1e3), round(end_ms * 1e3), batch, 0
    )


def trace(rounds: int, users: int = 2, gap_ms: float = 6.0, slow: float = 1.0) -> list[Span]:
    """Everybody in every batch; passes take what the law says times `slow`, then nothing happens for gap_ms."""
    spans, now = [], 0.0
    for round_ in range(rounds):
        cached = PROMPTS + users * (round_ - 1)
        ends = now + slow * (40.0 + users + 0.01 * cached)
        spans += [verify(f"s{n}", round_, round_, now, ends) for n in range(users)]
        now = ends + gap_ms
    return spans


def test_a_cycle_is_its_pass_and_the_share() -> None:
    found = cycles(trace(40), 2, PROMPTS)
    assert len(found) > 30
    one = at_users(found, LAW)
    assert one is not None
    assert (one.users, one.batches) == (2, len(found))
    assert one.batch_ms == pytest.approx(6.0, abs=0.01)
    assert one.gap_ms == pytest.approx(6.0, abs=0.01)
    assert one.pass_over_fit == pytest.approx(1.0, abs=1e-3)
    assert one.cycle_ms == pytest.approx(48.8, abs=0.5)


def test_slower_passes_than_the_laws_are_part_of_the_share_and_told() -> None:
    one = at_users(cycles(trace(40, slow=1.1), 2, PROMPTS), LAW)
    assert one is not None
    assert one.pass_over_fit == pytest.approx(1.1, abs=1e-3)
    assert one.gap_ms == pytest.approx(6.0, abs=0.01)
    assert one.batch_ms == pytest.approx(6.0 + 0.1 * 43, abs=0.2)


def test_only_steady_batches_count() -> None:
    """Prompts, batches without everybody, and passes that repeat a round are left out; drafts are nobody's business."""
    spans = trace(30)
    spans += [verify("s0", 1000, 30, 1e5, 1e5 + 50), verify("s0", 1001, 31, 1e5 + 60, 1e5 + 110)]
    spans += [verify(f"s{n}", 1002, 29, 2e5, 2e5 + 50) for n in range(2)]
    spans += [Span("draft_worker", "d", "s0", 1, 5, "draft", 0, 9, 0, 0)]
    assert cycles(spans, 2, PROMPTS) == cycles(trace(30), 2, PROMPTS)
    assert cycles(trace(30), 3, PROMPTS) == []


def test_too_few_say_nothing() -> None:
    assert at_users(cycles(trace(MIN_CYCLES), 2, PROMPTS), LAW) is None


def test_the_share_is_the_median_and_never_negative() -> None:
    runs = [at_users(cycles(trace(40, gap_ms=gap), 2, PROMPTS), LAW) for gap in (3.0, 9.0, 5.0)]
    seen = [one for one in runs if one]
    assert broker_of(seen).batch_ms == pytest.approx(5.0, abs=0.01)
    quick = at_users(cycles(trace(40, gap_ms=0.1, slow=0.8), 2, PROMPTS), LAW)
    assert quick is not None
    assert quick.batch_ms < 0
    assert broker_of([quick]).batch_ms == 0.0
