"""Rows of a race, metrics as they are read, and texts that are not the target's."""

import pytest

from cli.race.race import RaceRun, read_metrics
from cli.race.statistics import ceiling, rows
from loadgen.request import ChatRequest, Chunk, Record
from loadgen.run.scenario_users import Users
from shared.planning.cost import Packed


def test_rows_have_what_was_promised_and_what_was_wrong() -> None:
    runs = {
        "outrider": [
            RaceRun(200.0, {0: 90.0, 1: 110.0}, 210.0, 150.0, 152.0, 0.9),
            RaceRun(180.0, {0: 80.0, 1: 100.0}, 200.0),
        ],
        "generate, one user": [RaceRun(20.0), RaceRun(20.0)],
    }
    runs["outrider"][1].wrong.append("user 0")
    found = rows(runs, [100.0, 50.0])
    assert found["outrider"]["over"]["generate, one user"][0] == pytest.approx((10 * 9) ** 0.5)
    assert found["outrider"]["slowest_user"] == 85.0
    assert found["outrider"]["least_of_fair_rate"] == pytest.approx(0.85)
    assert found["outrider"]["realised_over_predicted"][0] == pytest.approx((200 / 210 * 180 / 200) ** 0.5)
    assert found["outrider"]["wrong_texts"] == ["user 0"]
    assert "verifier_busy" not in found["generate, one user"]


def test_the_ceiling_is_the_best_length_without_drafting_or_waiting() -> None:
    law = Packed(50.0, 1.0)
    best = max(1e3 * 10 * (1 - 0.8 ** (k + 1)) / 0.2 / (50 + 10 * (k + 1)) for k in range(20))
    assert ceiling(law, [0.8] * 10, 100) == pytest.approx(best)
    assert ceiling(law, [0.0], 0) == pytest.approx(1e3 / 51)


def test_metrics_lose_their_prefix_and_the_verifier_s_name() -> None:
    text = """# HELP x y
p_rate{verifier="v",what="predicted"} 12.5
p_plans_total{outcome="made"} 3.0
p_age{verifier="v"} 1.0
other 4.0
"""
    assert read_metrics(text, "p_") == {
        'rate{what="predicted"}': 12.5,
        'plans_total{outcome="made"}': 3.0,
        "age": 1.0,
    }


def test_users_count_what_came_in_time_and_find_the_first_wrong_token() -> None:
    users = Users(start=10.0, end=20.0)
    good, bad = (Record(ChatRequest(f"u{n}-0", "m", "p", 9), 0.0, 0.0) for n in range(2))
    good.chunks = [Chunk(9.0, "", (1, 2), 0), Chunk(11.0, "", (3,), 0), Chunk(20.0, "", (4,), 0)]
    bad.chunks = [Chunk(12.0, "", (1, 9), 0)]
    users.records = {0: [good], 1: [bad]}
    users.prompt_of = {id(good): 0, id(bad): 0}
    assert users.tokens() == {0: 1, 1: 2}
    assert users.wrong([(1, 2, 3, 4, 5)]) == ["user 1, u1-0: token 1 of 2"]
