"""The fixed cycle: it begins with everybody, keeps its turns, and waits for whole batches."""

from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView
from simulator.cohort.fixed_cycle import FixedCycle
from tests.shared.planning.session_views import view

VERIFIER = VerifierView("v", 0, 0, 0.0, 64)


def index(*views: SessionView) -> SessionIndex:
    made = SessionIndex(1)
    for one in views:
        made.put(one)
    return made


def test_it_begins_when_all_have_come_and_drafts_from_then_on() -> None:
    cycle = FixedCycle([[0, 2], [1]], 4)
    assert cycle.select(index(view(0), view(1)), VERIFIER, None, 0.0).rows == ()
    assert cycle.next_length(view(0), None, 0.0) == 0
    everybody = index(view(0), view(1), view(2))
    assert set(cycle.select(everybody, VERIFIER, None, 0.0).rows) == {"s0", "s2"}
    assert cycle.select(everybody, VERIFIER, None, 0.0).rows == ("s1",)
    assert cycle.next_length(view(0), None, 0.0) == 4


def test_a_batch_waits_for_its_members_and_not_for_those_who_have_ended() -> None:
    cycle = FixedCycle([[0, 2], [1]], 4)
    cycle.select(index(view(0), view(1), view(2)), VERIFIER, None, 0.0)
    cycle.select(index(view(0), view(1), view(2)), VERIFIER, None, 0.0)
    drafting = index(view(0), view(1), view(2, phase="drafting"))
    assert cycle.select(drafting, VERIFIER, None, 0.0).rows == ()
    assert cycle.select(index(view(0), view(1)), VERIFIER, None, 0.0).rows == ("s0",)
    assert cycle.select(index(view(0)), VERIFIER, None, 0.0).rows == ("s0",)
    assert cycle.select(index(), VERIFIER, None, 0.0).rows == ()
