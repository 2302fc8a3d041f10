"""Policies on hand-written timelines."""

from dataclasses import replace

import pytest

from shared.planning.cost import Packed
from shared.planning.policies import POLICY_NAMES, UnknownPolicy, make_policy
from shared.planning.policy import Policy
from shared.planning.problem import PackedServer
from shared.planning.session_index import SessionIndex
from shared.planning.views import Phase, SessionView, VerifierView

BASELINES = ("autoregressive", "greedy-batch", "fixed-k", "cyclic-k")
SERVER = PackedServer(Packed(30.0, 1.5))


def session(name: str, phase: Phase, since: float = 0.0, joined: int = 0, drafted: int = 0) -> SessionView:
    return SessionView(
        session=name,
        joined=joined,
        phase=phase,
        since=since,
        length=10,
        remaining=50,
        drafted=drafted,
        can_draft=True,
        device="d:1",
        alpha=0.8,
        draft_s_per_token=0.01,
        link_s=0.002,
    )


def verifier(in_flight: int = 0, max_rows: int = 8) -> VerifierView:
    return VerifierView("v", in_flight, in_flight, 0.0, max_rows)


class Timeline:
    """Sessions that change phase as a test says."""

    def __init__(self, policy: Policy, max_rows: int = 8) -> None:
        self.policy, self.max_rows = policy, max_rows
        self.sessions = SessionIndex(policy.lanes)
        self.now = 0.0

    def add(self, *names: str, phase: Phase = "ready", drafted: int = 4) -> None:
        for name in names:
            self.sessions.put(session(name, phase, self.now, joined=len(self.sessions), drafted=drafted))

    def become(self, phase: Phase, *names: str, drafted: int = 4) -> None:
        self.now += 1.0
        views = {view.session: view for view in self.sessions}
        for name in names:
            self.sessions.put(replace(views[name], phase=phase, since=self.now, drafted=drafted))

    def select(self, in_flight: int = 0) -> tuple[str, ...]:
        """The rows that the policy stages now; the sessions become `verifying`."""
        self.now += 1.0
        choice = self.policy.select(self.sessions, verifier(in_flight, self.max_rows), None, self.now)
        if choice.rows:
            self.sessions.closed(choice.lane, choice.rows, self.now)
            self.become("verifying", *choice.rows)
        return choice.rows


def test_autoregressive_serves_users_in_turn() -> None:
    line = Timeline(make_policy("autoregressive"))
    line.add("a", "b", "c")
    served = []
    for _ in range(6):
        (one,) = line.select()
        served.append(one)
        line.become("ready", one)
    assert served == ["a", "b", "c", "a", "b", "c"]


def test_autoregressive_gives_a_prompts_chunk_a_turn_of_its_own() -> None:
    line = Timeline(make_policy("autoregressive"))
    line.add("a")
    line.now += 1
    line.add("p", phase="prefill")
    choice = line.policy.select(line.sessions, verifier(), None, line.now)
    assert (choice.rows, choice.alone) == (("a",), True)
    line.become("verifying", "a")
    assert line.policy.select(line.sessions, verifier(), None, line.now).rows == ("p",)


@pytest.mark.parametrize("name", ["greedy-batch", "fixed-k"])
def test_one_batch_of_all_waits_for_the_last(name: str) -> None:
    line = Timeline(make_policy(name, k=4))
    line.add("a", "b")
    line.add("c", phase="drafting")
    assert line.select() == ()
    line.become("ready", "c")
    assert line.select() == ("a", "b", "c")
    line.become("ready", "a", "b")
    assert line.select() == ()  # c's verdict is not in
    line.become("ready", "c")
    assert set(line.select()) == {"a", "b", "c"}


def test_fixed_k_does_not_wait_for_prefill_or_blocked_sessions() -> None:
    line = Timeline(make_policy("fixed-k", k=4))
    line.add("a")
    line.add("p", phase="prefill")
    line.add("q", phase="prefilling")
    line.add("n", phase="blocked")
    assert line.select() == ("a",)


def test_rows_that_did_not_fit_are_in_the_next_batch_oldest_first() -> None:
    line = Timeline(make_policy("fixed-k", k=4), max_rows=2)
    line.add("a", "b", "c", "d", "e")
    assert line.select() == ("a", "b")
    assert line.select(in_flight=1) == ("c", "d")
    line.become("ready", "a", "b")
    assert line.select() == ("e",)  # before those that have just been served
    line.become("ready", "c", "d", "e")
    assert set(line.select()) == {"a", "b"}


def test_cyclic_k_verifies_one_batch_while_the_other_drafts() -> None:
    line = Timeline(make_policy("cyclic-k", k=4, batches=2))
    line.add("a1", "b1", "a2", "b2", phase="drafting")
    assert line.sessions.lane("a1") == line.sessions.lane("a2") != line.sessions.lane("b1")
    line.become("ready", "a1")
    assert line.select() == ()  # a2 is missing
    line.become("ready", "a2", "b1", "b2")
    assert line.select() == ("a1", "a2")
    assert line.select(in_flight=1) == ("b1", "b2")  # staged ahead
    line.become("drafting", "a1", "a2")
    line.become("ready", "a1", "a2")
    line.become("drafting", "b1", "b2")
    assert line.select() == ("a1", "a2")
    assert line.select(in_flight=1) == ()  # b drafts


def test_cyclic_k_waits_for_the_batch_whose_turn_it_is() -> None:
    line = Timeline(make_policy("cyclic-k", k=4, batches=2))
    line.add("a", "b", phase="drafting")
    line.become("ready", "a", "b")
    assert [line.select(), line.select()] == [("a",), ("b",)]
    line.become("drafting", "a")
    line.become("ready", "a")
    assert line.select() == ("a",)
    line.become("drafting", "b")
    line.become("ready", "a")
    assert line.select() == ()  # a is ready again, but it is b's turn
    line.become("ready", "b")
    assert line.select() == ("b",)


def test_cyclic_k_users_without_drafts_ride_in_every_batch() -> None:
    line = Timeline(make_policy("cyclic-k", k=4, batches=2))
    line.add("a", "b", "c")  # c is in a's batch
    line.become("ready", "b", drafted=0)
    assert line.select() == ("a", "c", "b")
    line.become("drafting", "a", "c")
    assert line.select() == ()  # b's batch has no rows: b is being verified in a's
    line.become("ready", "b", drafted=0)
    assert line.select() == ("b",)
    line.become("ready", "a", "b", "c", drafted=0)
    assert set(line.select()) == {"a", "b", "c"}


def test_a_session_in_another_lane_s_batch_does_not_delay_its_own() -> None:
    line = Timeline(make_policy("cyclic-k", k=4, batches=2))
    line.add("a", "b", "c", "d")  # a, c and b, d
    line.become("ready", "d", drafted=0)
    assert line.select() == ("a", "c", "d")
    assert line.select(in_flight=1) == ("b",)  # staged ahead, although d is still being verified in a's batch


def test_no_session_is_passed_over_twice_in_a_cycle() -> None:
    line = Timeline(make_policy("cyclic-k", k=4, batches=2), max_rows=2)
    line.add("a1", "b1", "a2", "b2", "a3", "b3")
    assert line.select() == ("a1", "a2")
    assert line.select(in_flight=1) == ("a3", "b1")  # a3 goes before the batch whose turn it is
    line.become("drafting", "a1", "a2", "a3", "b1")
    line.become("ready", "a1", "a2", "a3")
    assert line.select() == ("b2", "b3")


def test_draft_lengths() -> None:
    one = session("a", "ready")
    lengths = {name: make_policy(name, k=7).next_length(one, None, 0.0) for name in POLICY_NAMES}
    unplanned = {"dip-sd": 2, "outrider": 2, "outrider-fair": 2, "outrider-latency": 2}
    fixed = {"fixed-k": 7, "cyclic-k": 7, "flowspec": 7}
    assert lengths == {"autoregressive": 0, "greedy-batch": 0} | fixed | unplanned
    assert make_policy("fixed-k").k > 0  # its own


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_plan_nothing(name: str) -> None:
    assert not make_policy(name).plans
    assert make_policy(name).plan([session("a", "ready")], SERVER, 64, None) is None


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        UnknownPolicy,
        match=r"'best'.*autoregressive, greedy-batch, fixed-k, cyclic-k, dip-sd, flowspec, outrider",
    ):
        make_policy("best")
