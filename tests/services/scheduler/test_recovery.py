"""A scheduler's start from the session logs, pending messages and heartbeats."""

import pytest

from services.scheduler.effects import PlaceSession, ReadHead, Stage
from shared.protocol.messages import Draft, Open, Submit, Verdict
from shared.protocol.session import SessionHead
from tests.services.scheduler.desk import Desk


def head(name: str = "s", committed: int = 5, **other: object) -> SessionHead:
    fields: dict[str, object] = {
        "session": name,
        "prompt_len": 10,
        "max_tokens": 50,
        "gateway": "g:1",
        "device_wanted": "",
        "deadline_ms": 60_000,
        "epoch": 3,
        "verifier": "v",
        "device": "d:1",
        "committed": committed,
        "finish": "",
    }
    return SessionHead(**{**fields, **other})  # type: ignore[arg-type]  # a test's own fields


def verdict(length: int, next_k: int) -> Verdict:
    return Verdict("s", 3, 7, length - 1, (), length, next_k=next_k)


def draft(base_len: int) -> Draft:
    return Draft("s", 3, 8, base_len, "d:1", (1, 2, 3), bytes(3))


def resumed(desk: Desk) -> Desk:
    desk.core.resume(desk.now)
    desk.tick()
    return desk


def adopted(**other: object) -> Desk:
    desk = Desk()
    desk.core.adopt(head(**other), desk.now)  # type: ignore[arg-type]  # a test's own fields
    return desk


def test_a_session_without_a_message_under_way_gets_a_row_and_its_device_back() -> None:
    desk = resumed(adopted())
    row = desk.row("s")
    assert (row.base_len, row.feed_to, row.epoch, row.next_k, row.device) == (15, 15, 3, 4, "d:1")
    assert desk.did(PlaceSession) == []


def test_its_device_may_be_gone() -> None:
    desk = resumed(adopted(device="d:0"))
    assert desk.row("s").next_k == 0
    desk.fleet(trusted=True)
    assert desk.did(PlaceSession) == [PlaceSession("s", 3, "v", "d:1")]


@pytest.mark.parametrize("verifier", ["v", ""], ids=["placed", "not placed yet"])
def test_a_device_asked_for_stays_the_only_one(verifier: str) -> None:
    desk = resumed(adopted(device_wanted="mine", device="mine:1" if verifier else "", verifier=verifier))
    desk.fleet(trusted=True)  # that device is gone, and another is there
    assert desk.session("s").device == ""
    assert desk.sent(Open) == []
    desk.fleet(("d:1", "mine:2"), trusted=True)
    assert [device for device, _ in desk.sent(Open)] == ["mine:2"]


def test_a_pending_draft_is_the_next_row() -> None:
    desk = adopted()
    (entry,) = desk.take(draft(15), again=True)
    (stage,) = desk.did(Stage)
    assert stage.drafts == (entry,)
    assert resumed(desk).rows == []


def test_a_pending_draft_from_before_the_last_verdict_is_dropped() -> None:
    desk = adopted()
    desk.take(draft(14), again=True)
    assert resumed(desk).row("s").tokens == ()
    assert desk.dropped("draft", "late") == 1


def test_a_pending_verdict_leaves_the_move_with_the_device() -> None:
    desk = adopted()
    desk.take(verdict(15, next_k=4), again=True)
    assert resumed(desk).rows == []
    assert desk.session("s").phase == "drafting"
    desk.take(draft(15))
    assert desk.row("s").tokens == (1, 2, 3)


def test_a_pending_verdict_without_a_draft_is_ours() -> None:
    desk = adopted()
    desk.take(verdict(15, next_k=0), again=True)
    assert desk.row("s").base_len == 15


def test_a_prompt_is_fed_from_the_start_and_the_verifier_tells_what_it_has() -> None:
    desk = resumed(adopted(committed=0, prompt_len=200))
    assert desk.row("s").feed_to == 64
    desk.take(desk.verdict(desk.row("s"), status="prefilled", cached=192))
    assert desk.row("s").feed_to == 200


def test_a_session_that_was_never_placed_is_placed() -> None:
    desk = resumed(adopted(epoch=0, verifier="", device="", committed=0))
    assert desk.did(PlaceSession) == [PlaceSession("s", 1, "v", "d:1")]


def test_a_session_whose_verifier_is_not_there_moves_or_waits() -> None:
    desk = resumed(adopted(verifier="w"))
    assert desk.rows == []
    desk.fleet(trusted=True)
    assert desk.did(PlaceSession) == [PlaceSession("s", 4, "v", "d:1")]
    assert desk.row("s").epoch == 4


def test_or_is_met_again() -> None:
    desk = resumed(adopted(verifier="w"))
    desk.fleet(verifiers=("v:1", "w:1"))
    assert (desk.did(Stage)[0].verifier, desk.row("s").epoch) == ("w", 3)


def test_a_finished_session_is_left_alone() -> None:
    assert not adopted(finish="stop").core.sessions


@pytest.mark.parametrize("finish", ["", "stop"])
def test_a_submit_delivered_before_is_looked_up(finish: str) -> None:
    desk = Desk()
    desk.take(Submit("s", 10, 50, 60_000, "g:1"), again=True)
    assert desk.effects == [ReadHead("s")]
    desk.core.on_head(head(finish=finish), desk.now)
    desk.tick()
    assert [row.session for row in desk.rows] == ([] if finish else ["s"])


def test_a_live_session_nobody_told_of_is_taken_in() -> None:
    desk = Desk()
    desk.core.on_head(head(epoch=0, verifier="", device="", committed=0), desk.now)
    desk.tick()
    assert desk.row("s").epoch == 1
