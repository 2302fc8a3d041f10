"""Sessions that a verifier keeps: nodes of their devices' trees are passed on, and what brings the sessions back."""

from dataclasses import replace
from typing import Any

import pytest

from services.scheduler.effects import Effect, ReadHead, SendToDevice, Stage
from shared.protocol.limits import MAX_ROWS
from shared.protocol.messages import Control, Draft, Grown, Open, StagedRow, Verdict
from tests.services.scheduler.desk import Desk, beat


class TreeDesk(Desk):
    """A desk at whose verifier three passes may be under way."""

    def __init__(self, **options: Any) -> None:
        super().__init__("flowspec", passes=3, **options)

    def keep(self, *names: str) -> None:
        """Start sessions whose devices are ready, until the verifier keeps them."""
        self.submit(*names)
        rows = self.rows
        self.take(*(self.resync(name, "ready") for name in names))
        self.take(*(self.kept(row) for row in rows))
        assert all(self.session(name).phase == "kept" for name in names)

    def kept(self, row: StagedRow) -> Verdict:
        """The verdict on a row after which its session is kept, and its device grows a tree."""
        assert row.tree == "device"
        verdict = replace(self.verdict(row, batch=self.session(row.session).batch), next_k=0)
        return replace(verdict, keeps=True, tree=verdict.length)

    def step(self, name: str, emitted: int = 1, **changes: Any) -> Verdict:
        """The verdict on one step of a session that is kept; its tree dies, unless `tree` says otherwise."""
        s = self.session(name)
        length = s.length + emitted
        step = Verdict(name, s.epoch, 0, s.length, (), length, drafted=3, accepted=emitted - 1, keeps=True)
        return replace(step, tree=length, **changes) if "tree" not in changes else replace(step, **changes)

    def answer(self, row: StagedRow, length: int) -> Verdict:
        """What the log answers to a row that took a session back after steps of its tree were committed."""
        batch = self.session(row.session).batch
        return replace(self.verdict(row, emitted=length - row.base_len, batch=batch), accepted=0)

    def nodes(self, name: str, first: int = 0, **changes: Any) -> Draft:
        """Three nodes of the session's tree."""
        s = self.session(name)
        parents = (first - 1, first - 1, first)
        draft = Draft(name, s.epoch, 0, s.tree, s.device, (7, 8, 9), b"\x90\x50\x80", parents)
        return replace(draft, first_node=first, **changes)

    @property
    def passed_on(self) -> list[Grown]:
        return [grown for stage in self.did(Stage) for grown in stage.batch.grown]


@pytest.fixture
def desk() -> TreeDesk:
    made = TreeDesk()
    made.keep("s")
    return made


# --- nodes ----------------------------------------------------------------------------------------------
def test_nodes_are_passed_on_as_they_are_and_acknowledged_with_their_batch(desk: TreeDesk) -> None:
    draft = desk.nodes("s")
    (entry,) = desk.take(draft)
    (stage,) = desk.did(Stage)
    assert (stage.verifier, stage.drafts, stage.batch.rows) == ("v", (entry,), ())
    assert (stage.batch.term, stage.batch.grown) == (
        1,
        (Grown("s", 1, 11, 0, (7, 8, 9), (-1, -1, 0), b"\x90\x50\x80"),),
    )
    assert not desk.core.holds(entry)
    assert desk.session("s").phase == "kept"


def test_nodes_of_a_turn_go_together_in_their_order(desk: TreeDesk) -> None:
    entries = desk.take(*(desk.nodes("s", 3 * n) for n in range(MAX_ROWS + 5)))
    first, second = desk.did(Stage)
    assert first.batch.batch < second.batch.batch
    assert (*first.drafts, *second.drafts) == tuple(entries)
    assert [grown.first_node for grown in desk.passed_on] == [3 * n for n in range(MAX_ROWS + 5)]


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("late", {"base_len": 10}),
        ("unknown", {"session": "t"}),
        ("epoch", {"epoch": 2}),
        ("device", {"device": "e:1"}),
    ],
)
def test_nodes_that_are_not_for_this_tree_are_dropped(
    desk: TreeDesk, reason: str, changes: dict[str, Any]
) -> None:
    (entry,) = desk.take(replace(desk.nodes("s"), **changes))
    assert (desk.effects, desk.core.holds(entry), desk.dropped("draft", reason)) == ([], False, 1)
    assert desk.session("s").phase == "kept"


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": (), "parents": (), "survival": b""},
        {"tokens": (7, 8)},
        {"parents": (-1, -1)},
        {"parents": ()},
        {"survival": b"\x90\x50"},
    ],
)
def test_a_device_that_sends_malformed_nodes_gets_a_row_and_no_further_draft(
    desk: TreeDesk, changes: dict[str, Any]
) -> None:
    (entry,) = desk.take(desk.nodes("s", **changes))
    assert (desk.passed_on, desk.core.holds(entry), desk.dropped("draft", "malformed")) == ([], False, 1)
    row = desk.row("s")  # takes the session back
    assert (row.base_len, row.next_k) == (11, 0)
    assert row.tree != "device"


def test_nodes_after_the_session_has_come_back_are_late(desk: TreeDesk) -> None:
    desk.take(Control("fixed-k"), desk.nodes("s"))
    assert (desk.passed_on, desk.dropped("draft", "late")) == ([], 1)


def test_a_full_stream_loses_the_nodes_and_nothing_else(desk: TreeDesk) -> None:
    (entry,) = desk.take(desk.nodes("s"))
    (stage,) = desk.did(Stage)
    desk.core.on_stage_refused(stage, desk.now)
    desk.tick()
    assert (desk.effects, desk.core.holds(entry), desk.count("refusals")) == ([], False, 1)
    assert desk.session("s").phase == "kept"
    desk.submit("t")
    assert desk.row("t").feed_to == 10  # rows are staged at once
    desk.take(desk.nodes("s", 3))
    assert len(desk.passed_on) == 1


def test_steps_tell_nothing_about_how_often_the_device_is_right(desk: TreeDesk) -> None:
    before = desk.session("s").acceptance.alpha
    desk.take(desk.step("s", emitted=3))
    assert desk.session("s").acceptance.alpha == before
    assert desk.session("s").length == 14


# --- the sessions ---------------------------------------------------------------------------------------
def test_who_grows_depends_on_the_device_and_on_the_verifier() -> None:
    def first_row(**options: Any) -> StagedRow:
        desk = Desk("flowspec", **options)
        desk.submit("s")
        return desk.row("s")

    chains_only = replace(beat("draft_worker", "d:1"), trees=False)
    rows = {
        "its device": first_row(passes=3, trees=True),
        "the core, without a device": first_row(passes=3, trees=True, devices=()),
        "the core, for a device of chains": first_row(passes=3, trees=True, devices=(chains_only,)),
        "nobody: the device drafts chains": first_row(passes=3, devices=(chains_only,)),
        "nobody: there is no device": first_row(passes=3, devices=()),
        "nobody: there are no stages": first_row(),
    }
    assert {who: (row.tree, row.next_k, row.free) for who, row in rows.items()} == {
        "its device": ("device", 4, 0),
        "the core, without a device": ("core", 0, 4),
        "the core, for a device of chains": ("core", 0, 4),
        "nobody: the device drafts chains": ("", 4, 0),
        "nobody: there is no device": ("", 0, 0),
        "nobody: there are no stages": ("", 4, 0),
    }


def test_a_session_that_is_kept_does_not_hold_up_others(desk: TreeDesk) -> None:
    desk.submit("t")
    row = desk.row("t")
    desk.take(desk.resync("t", "ready"))
    desk.take(desk.verdict(row, batch=desk.session("t").batch))  # was not kept: a chain is drafted
    assert desk.session("t").phase == "drafting"
    desk.take(desk.draft("t"))
    assert [staged.session for staged in desk.rows] == ["t"]
    assert desk.session("s").phase == "kept"


def test_a_step_leaves_the_session_with_the_verifier_and_moves_its_tree(desk: TreeDesk) -> None:
    desk.take(desk.step("s", emitted=2, tree=11))
    assert (desk.session("s").phase, desk.session("s").tree, desk.effects) == ("kept", 11, [])
    desk.take(desk.nodes("s", 3))
    assert [grown.tree for grown in desk.passed_on] == [11]
    desk.take(desk.step("s"))
    assert desk.session("s").tree == 14
    desk.take(desk.step("s", finish="stop", keeps=False))
    assert "s" not in desk.core.sessions


def test_a_verifier_that_falls_silent_is_asked_about_its_sessions_and_a_row_takes_them_back(
    desk: TreeDesk,
) -> None:
    desk.tick(after=2.01)
    assert desk.did(ReadHead) == [ReadHead("s")]
    desk.core.on_head(desk.head("s"), desk.now)
    desk.tick()
    assert desk.row("s").base_len == 11


@pytest.mark.parametrize("policy", ["fixed-k", "greedy-batch", "flowspec"])
def test_control_brings_kept_sessions_back(desk: TreeDesk, policy: str) -> None:
    desk.take(Control(policy))
    row = desk.row("s")
    assert row.base_len == 11
    assert row.tree == ("device" if policy == "flowspec" else "")


def test_steps_that_were_committed_before_the_row_arrived_do_not_end_its_turn(desk: TreeDesk) -> None:
    """The row finds the log ahead, so that its answer has no token that the steps did not bring."""
    desk.take(Control("fixed-k"))
    row = desk.row("s")
    desk.take(desk.step("s", emitted=2))
    assert (desk.session("s").phase, desk.rows) == ("verifying", [])
    desk.take(desk.answer(row, length=13))
    assert (desk.session("s").phase, desk.session("s").allowed_k) == ("drafting", 4)


def test_a_session_that_waits_for_its_batch_is_not_left_to_the_verifier_again() -> None:
    desk = TreeDesk()
    desk.keep("s")
    desk.submit("t", prompt=100)  # under fixed-k a batch waits for both
    chunk = desk.row("t")
    desk.take(desk.verdict(chunk, status="prefilled", cached=64))
    desk.take(Control("fixed-k"))
    staged = desk.rows
    desk.take(desk.step("s"))
    assert desk.session("s").phase in ("ready", "verifying")
    assert [row.session for row in (*staged, *desk.rows)].count("s") == 1


def test_a_commit_that_the_verifier_repeated_after_a_lost_answer_ends_the_keeping(desk: TreeDesk) -> None:
    """Such a verifier does not keep the session: the repeated commit was answered from the log."""
    step = desk.step("s")
    desk.take(step)
    desk.take(replace(step, keeps=False, tree=0, drafted=0))
    assert desk.row("s").base_len == 12


def test_another_device_brings_the_session_back_at_its_next_step() -> None:
    desk = TreeDesk(devices=("d:1", "e:1"))
    desk.keep("s")
    old = desk.session("s").device
    new = "e:1" if old == "d:1" else "d:1"
    desk.fleet(devices=(new,))
    assert desk.session("s").device == new
    assert [effect.device for effect in desk.did(SendToDevice) if isinstance(effect.message, Open)] == [new]
    late = replace(desk.nodes("s"), device=old)
    desk.take(late)
    assert (desk.passed_on, desk.dropped("draft", "device")) == ([], 1)
    desk.take(desk.step("s"))
    row = desk.row("s")
    assert (row.base_len, row.device, row.tree) == (
        12,
        new,
        "",
    )  # it has not caught up, and the core grows none
    desk.take(desk.step("s"))  # of the old tree, committed before the row came
    assert desk.session("s").phase == "verifying"
    desk.take(desk.resync("s", "ready"), desk.answer(row, length=13))
    assert desk.row("s").tree == "device"


def test_a_device_with_a_gap_is_told_the_log_and_the_session_stays(desk: TreeDesk) -> None:
    desk.take(desk.resync("s", "gap"))
    assert [effect.device for effect in desk.did(SendToDevice)] == ["d:1"]
    desk.take(desk.step("s"))
    assert desk.session("s").phase == "kept"


def test_a_row_with_a_chain_may_be_kept_as_well(desk: TreeDesk) -> None:
    """Else a session that came back once would go on with chains to its end."""
    desk.take(Control("flowspec"))
    row = desk.row("s")
    desk.take(desk.step("s"))
    desk.take(desk.answer(row, length=12))
    assert desk.session("s").phase == "drafting"
    desk.take(desk.draft("s"))
    row = desk.row("s")
    assert (len(row.tokens), row.tree) == (4, "device")
    desk.take(desk.kept(row))
    assert desk.session("s").phase == "kept"


def test_a_verifier_that_restarts_feeds_its_sessions_again(desk: TreeDesk) -> None:
    late = desk.step("s")
    desk.fleet(verifiers=("v:2",))
    assert desk.row("s").feed_to == 11
    desk.take(late)
    assert desk.session("s").phase != "kept"


# --- a scheduler that takes over ------------------------------------------------------------------------
def adopting(head_length: int, *messages: Any) -> tuple[TreeDesk, list[Effect]]:
    """A new term's scheduler with the session's log and these messages."""
    before, after = TreeDesk(), TreeDesk()
    before.keep("s")
    head = before.head("s", committed=head_length - 10)
    after.core.adopt(head, after.now)
    for number, message in enumerate(messages):
        after.core.handle(message, f"{number + 900}-0", after.now, True)
    after.core.resume(after.now)
    after.tick()
    return after, after.effects


def test_a_scheduler_that_takes_over_takes_kept_sessions_back() -> None:
    after, _ = adopting(11)
    assert (after.row("s").base_len, after.session("s").phase) == (11, "verifying")


def test_a_scheduler_that_takes_over_hears_of_steps_and_leaves_the_session_there() -> None:
    step = Verdict("s", 1, 0, 11, (), 13, drafted=3, accepted=1, keeps=True, tree=11)
    after, effects = adopting(11, step)
    assert (effects, after.session("s").phase, after.session("s").tree) == ([], "kept", 11)
    after.take(after.nodes("s", 3))
    assert [grown.first_node for grown in after.passed_on] == [3]


def test_nodes_that_an_ended_term_left_are_late_or_passed_on() -> None:
    nodes = Draft("s", 1, 0, 11, "d:1", (7,), b"\x90", (-1,), first_node=0)
    after, _ = adopting(11, nodes)
    assert (after.passed_on, after.dropped("draft", "late")) == ([], 1)


def test_siblings_are_for_devices_that_draft_trees_and_policies_that_use_them() -> None:
    def siblings(policy: str, trees: bool) -> int:
        desk = Desk(policy, devices=(replace(beat("draft_worker", "d:1"), trees=trees),))
        desk.submit("s")
        return desk.row("s").siblings

    assert siblings("flowspec", trees=True) > 0  # by the law that is assumed before any pass was seen
    assert siblings("flowspec", trees=False) == siblings("fixed-k", trees=True) == 0
