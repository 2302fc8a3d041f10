"""Every method emits the target's own text, on any pipeline; and their speeds are related as published."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.planning.pieces import PipelineLaw, StageLaw
from simulator.pipeline.laws import LAWS
from simulator.pipeline.methods.asynchronous import Asynchronous
from simulator.pipeline.methods.lock_step import LockStep
from simulator.pipeline.methods.one_shot import OneShot
from simulator.pipeline.run import WrongText, run_method
from simulator.pipeline.session import Session

EVERY = (
    OneShot(1, 0, 1),
    OneShot(5, 4, 1, groups=2),
    OneShot(16, 3, 10, pieces=3, groups=3),
    LockStep(rows=24, levels=3),
    LockStep(rows=24, levels=3, redraft=2, deepen=1),
    LockStep(rows=24, levels=3, redraft=2, deepen=1, best_first=True),
    Asynchronous(),
    Asynchronous(children=1, hold=0, patience=0.0),
    Asynchronous(rows=6, flying=2),
)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(EVERY),
    st.lists(st.tuples(st.floats(0.5, 80.0), st.floats(0.01, 3.0)), min_size=1, max_size=6),
    st.floats(0.0, 30.0),
    st.floats(0.1, 15.0),
    st.floats(0.35, 0.95),
    st.integers(1, 4),
    st.integers(0, 1000),
)
def test_the_text_is_the_target_s_own_on_every_pipeline(
    method: Any,
    stages: list[tuple[float, float]],
    hop_ms: float,
    draft_ms: float,
    p1: float,
    users: int,
    seed: int,
) -> None:
    law = PipelineLaw(tuple(StageLaw(*one) for one in stages), hop_ms, 0.1, draft_ms, StageLaw(0.5, 0.1))
    outcome = run_method(method, law, p1, users, 30 * users, seed)  # raises WrongText
    assert outcome.tokens_per_s > 0
    assert 0.0 <= outcome.idle <= 1.0


def test_a_wrong_text_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Session.advance

    def forge(session: Session) -> Any:
        decisions = advance(session)
        session.emitted[-1:] = [-1] if decisions else []
        return decisions

    monkeypatch.setattr(Session, "advance", forge)
    with pytest.raises(WrongText, match="user 0"):
        run_method(OneShot(1, 0, 1), LAWS["gpu"](2, 0.3), 0.75, 1, 20, 1)


def test_decoding_without_drafts_takes_a_round_trip_a_token() -> None:
    law = LAWS["edge"](4, 0.3)
    outcome = run_method(OneShot(1, 0, 1), law, 0.75, 1, 50, 1)
    assert outcome.tokens_per_s == pytest.approx(1e3 / law.round_trip_ms(1))


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (run_method(Asynchronous(), LAWS["cpu"](4, 0.3), 0.75, 2, 200, 7) for _ in range(2))
    assert first == second


def test_two_users_share_a_lock_step_pipeline_one_after_the_other() -> None:
    outcome = run_method(LockStep(), LAWS["gpu"](2, 0.3), 0.75, 2, 100, 1)
    assert outcome.tokens >= 85


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "over_c", "over_e"), [("edge", 1.77, 1.2), ("cpu", 1.77, 1.2), ("gpu", 1.77, 1.2)]
)
def test_asynchronous_trees_outrun_lock_step_and_the_baseline(
    name: str, over_c: float, over_e: float
) -> None:
    law = LAWS[name](4, 0.3)
    baseline, lock_step, trees = (
        sum(run_method(method, law, 0.75, 1, 1500, seed).tokens_per_s for seed in (1, 2))
        for method in (OneShot(80, 7, 10, pieces=5), LockStep(redraft=6, deepen=1), Asynchronous())
    )
    assert trees > over_c * baseline
    assert trees > over_e * lock_step
