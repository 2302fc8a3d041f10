"""`awc`: what it sees, when it changes its mind, what it does where it knows nothing; the file of its weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.planning.cost import Packed
from shared.planning.views import SessionView
from shared.planning.windows.awc import Awc
from shared.planning.windows.cost_network import (
    ARRAYS,
    Choice,
    CostNetwork,
    WeightsError,
    predicted_of,
    read_weights,
    write_weights,
)
from shared.planning.windows.rates import best_length
from shared.planning.windows.sensors import FEATURES, Sensors
from shared.planning.windows.setpoint import DECIDE_EVERY
from shared.planning.windows.window import MAX_K, Decision, Load, RoundOutcome

COUNT = len(FEATURES)
CHOICES: tuple[Choice, ...] = (("none", 0), *(("distributed", k) for k in range(1, MAX_K + 1)))


def view(session: str = "a", alpha: float = 0.8, draft_ms: float = 5.0, link_ms: float = 4.0) -> SessionView:
    return SessionView(
        session, 0, "ready", 0.0, 100, 100, 0, True, "d:1", alpha, draft_ms / 1e3, link_ms / 1e3
    )


def load(*sessions: SessionView, step: int = 1, scale: float = 1.0, verifier: str = "v") -> Load:
    law = Packed(30.0 * scale, 1.0 * scale, 0.0)
    return Load(verifier, step, law, len(sessions), 100.0, sessions, 0.01 * scale)


def network(favoured: int | None = None, by: float = 1.0, low: float = -99.0) -> CostNetwork:
    """Predicts as goodput does, and for one choice a log cost that is lower by `by`."""
    enter, inner, leave = np.zeros((4, COUNT + 1)), np.zeros((4, 4)), np.zeros((len(CHOICES), 4))
    enter[0, -1] = 1.0  # the bias alone: the first hidden unit is 1
    if favoured is not None:
        leave[favoured, 0] = -by
    found = (np.full(COUNT, low), np.full(COUNT, 99.0), np.zeros(COUNT), np.ones(COUNT), enter, inner, leave)
    arrays = {name: one.astype(np.float32) for name, one in zip(ARRAYS, found, strict=True)}
    return CostNetwork(CHOICES, **arrays, about={})


def feature(name: str, sensors: Sensors, *sessions: SessionView, verifier: str = "v") -> float:
    reading = sensors.read(sessions[0], load(*sessions, verifier=verifier), 4)
    return float(reading.features[FEATURES.index(name)])


def test_features_have_no_unit() -> None:
    """A verifier, devices and links that are all ten times as slow look the same."""
    fast = Sensors().read(view(), load(view(), view("b")), 4).features
    slow_views = [view(name, draft_ms=50.0, link_ms=40.0) for name in "ab"]
    slow = Sensors().read(slow_views[0], load(*slow_views, scale=10.0), 4).features
    assert slow == pytest.approx(fast, abs=1e-5)


def test_fast_acceptance_follows_the_last_rounds_before_the_slow_average_does() -> None:
    sensors, one = Sensors(), view(alpha=0.8)
    assert feature("alpha_fast", sensors, one) == pytest.approx(0.8)
    for _ in range(6):
        sensors.observe("a", RoundOutcome(4, 4, 0, 0.05))
    assert feature("alpha_fast", sensors, one) < 0.4
    sensors.forget("a")
    assert feature("alpha_fast", sensors, one) == pytest.approx(0.8)


def test_a_round_that_takes_longer_than_predicted_shows_as_excess() -> None:
    sensors, one = Sensors(), view()
    assert feature("excess", sensors, one) == 0.0
    predicted_ms = float(np.exp(sensors.read(one, load(one), 4).predicted[4]))
    for _ in range(3):
        sensors.observe("a", RoundOutcome(4, 4, 4, 2 * 5 * predicted_ms / 1e3))
    assert feature("excess", sensors, one) == pytest.approx(np.log(2), abs=1e-3)


def test_trend_is_the_growth_of_the_number_of_sessions() -> None:
    sensors = Sensors()
    assert feature("trend", sensors, view()) == 0.0
    assert feature("trend", sensors, *(view(name) for name in "abcd")) == pytest.approx(np.log(4))
    assert feature("trend", sensors, view("a"), verifier="another") == 0.0


def test_it_takes_the_choice_of_least_predicted_cost() -> None:
    assert Awc(network(7)).decide(view(), load(view())).k == 7
    poor = view(alpha=0.05, draft_ms=40.0)
    assert Awc(network(0)).decide(poor, load(poor)) == Decision("none", 0)


def test_it_drafts_as_long_as_goodput_hopes_for_something() -> None:
    assert Awc(network(0, 9.0)).decide(view(), load(view())).k > 0


def test_it_changes_its_mind_for_five_percent_and_not_for_less() -> None:
    goodput = best_length(load(view()), None)
    costs = Sensors().read(view(), load(view()), 0).predicted
    other = goodput + 1
    lead = float(costs[other] - costs[goodput])
    for gain, moves in ((0.04, False), (0.06, True)):
        awc = Awc(network())
        assert awc.decide(view(), load(view())).k == goodput
        awc.network = network(other, lead + gain)
        later = awc.decide(view(), load(view(), step=1 + DECIDE_EVERY))
        assert (later.k == other) == moves


def test_it_moves_by_two_tokens_a_batch_all_sessions_of_a_batch_alike() -> None:
    awc = Awc(network(1, 9.0))
    views = [view("a"), view("b")]
    assert awc.decide(views[0], load(*views)).k == 1
    awc.network = network(8, 9.0)
    lengths = [
        [awc.decide(one, load(*views, step=step)).k for one in views]
        for step in range(1 + DECIDE_EVERY, 6 + DECIDE_EVERY)
    ]
    assert lengths == [[3, 3], [5, 5], [7, 7], [8, 8], [8, 8]]


def test_without_drafts_it_probes_ever_less_often() -> None:
    awc, one = Awc(network(0, 9.0)), view(alpha=0.05, draft_ms=40.0)
    probes = [step for step in range(400) if awc.decide(one, load(one, step=step)).k]
    pauses = np.diff(probes)
    assert len(probes) >= 3
    assert (pauses[1:] > 1.5 * pauses[:-1]).all()


def test_outside_of_its_training_range_it_says_so_and_follows_goodput() -> None:
    awc = Awc(network(9, 9.0, low=50.0))
    for sessions in ([view()], [view(alpha=0.2, draft_ms=40.0)]):
        fresh = load(*sessions, verifier=f"v{sessions[0].alpha}")
        assert awc.decide(sessions[0], fresh).k == best_length(fresh, None)
    assert awc.warned == {FEATURES[0]}


def test_the_same_rounds_give_the_same_decisions() -> None:
    def decisions() -> list[int]:
        awc, found = Awc(read_weights()), []
        for step in range(60):
            awc.observe("a", RoundOutcome(4, 4, step % 5, 0.06))
            found.append(awc.decide(view(), load(view(), view("b"), step=step)).k)
        return found

    assert decisions() == decisions()


def test_weights_survive_a_file(tmp_path: Path) -> None:
    path, rng = tmp_path / "weights.json", np.random.default_rng(1)
    made = replace(network(3, 0.123456), about={"cells": 5})
    write_weights(path, made)
    found = read_weights(path)
    x, base = rng.normal(size=COUNT).astype(np.float32), rng.normal(size=len(CHOICES)).astype(np.float32)
    assert found.log_costs(x, base) == pytest.approx(made.log_costs(x, base), abs=1e-5)
    assert found.choices == CHOICES
    assert found.about["cells"] == 5


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    write_weights(path, network(3))
    path.write_text(path.read_text().replace("-1.0", "-2.0"))
    with pytest.raises(WeightsError, match="sha256"):
        read_weights(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 0}, "another version"),
        ({"features": ["link"]}, "another version"),
        ({"low": []}, "sha256"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "weights.json"
    write_weights(path, network())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=words):
        read_weights(path)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="train-awc"):
        read_weights(tmp_path / "none.json")


def test_the_shipped_network_still_sees_what_it_learnt_from() -> None:
    """Its probe: an example of its training, and the costs that it predicted for it."""
    shipped = read_weights()
    probe = {name: np.array(values, dtype=np.float32) for name, values in shipped.about["probe"].items()}
    costs = shipped.log_costs(probe["features"], predicted_of(shipped.choices, probe["predicted"]))
    assert costs == pytest.approx(probe["log_costs"], abs=1e-3)
    assert shipped.outside(probe["features"]) is None
