"""What devices say of the sessions they hold, or do not hold."""

import pytest

from shared.protocol.messages import Close, Open, Resync, ResyncReason
from tests.services.scheduler.desk import Desk, beat


@pytest.mark.parametrize(
    ("reason", "expected_closes"), [("lost", 1), ("silent", 1), ("gone", 0), ("no_capacity", 0)]
)
def test_a_device_that_asks_about_a_session_it_does_not_have_is_told(
    reason: ResyncReason, expected_closes: int
) -> None:
    desk = Desk(devices=[beat("draft_worker", "d:1"), beat("draft_worker", "e:1")])
    desk.start("s")
    other = "e:1" if desk.session("s").device == "d:1" else "d:1"
    for session in ("s", "never heard of"):
        desk.take(Resync(session, 1, other, 10, reason))
        assert desk.sent(Close) == [(other, Close(session, 1, ""))] * expected_closes
    desk.take(Resync("s", 1, "nobody:9", 10, reason))
    assert desk.sent(Close) == []
    assert desk.session("s").device not in ("", other)


def test_a_device_that_asks_about_its_own_session_keeps_it() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(Resync("s", 1, "d:1", 10, "silent"))
    assert desk.sent(Close) == []
    assert desk.sent(Open) == []


def test_a_lost_device_is_told_again_and_drafts_once_it_is_ready() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.resync("s", "gap"))
    assert desk.sent(Open) == [("d:1", Open("s", 1, 11))]
    assert desk.row("s").next_k == 0
    desk.take(desk.resync("s", "ready"), desk.verdict(desk.row("s")))
    assert desk.row("s").next_k == 4


def test_resyncs_of_strangers_are_dropped() -> None:
    desk = Desk()
    desk.start("s")
    desk.take(desk.resync("s", "lost", device="d:7"))
    assert desk.sent(Open) == []
    assert desk.dropped("resync", "device") == 1
