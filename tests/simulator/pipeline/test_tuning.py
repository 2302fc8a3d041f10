"""The search for one-shot trees: its estimate of a round, and what it chooses."""

import pytest

from simulator.pipeline.laws import LAWS
from simulator.pipeline.methods.one_shot import OneShot
from simulator.pipeline.run import run_method
from simulator.pipeline.tuning import best_decoding, best_one_shot, round_ms


@pytest.mark.parametrize("settings", [OneShot(1, 0, 1), OneShot(8, 7, 1), OneShot(24, 6, 10, pieces=2)])
@pytest.mark.parametrize("name", ["edge", "gpu"])
def test_the_estimate_of_a_round_is_that_of_a_run(settings: OneShot, name: str) -> None:
    law = LAWS[name](4, 0.3)
    outcome = run_method(settings, law, 0.75, 1, 60, 1)
    heads = [one.end for one in outcome.timeline.passes if one.what == "head"][:: settings.pieces]
    assert 1e3 * (heads[5] - heads[4]) == pytest.approx(round_ms(law, settings, 1), rel=0.03)


def test_many_users_decode_in_one_group_for_every_stage() -> None:
    assert best_decoding(LAWS["edge"](4, 0.3), 8).groups == 4
    assert best_decoding(LAWS["edge"](4, 0.3), 1).groups == 1


@pytest.mark.slow
def test_the_best_tree_beats_the_baseline_and_the_best_chain() -> None:
    law = LAWS["edge"](4, 0.3)
    best, chain = best_one_shot(law, 0.75), best_one_shot(law, 0.75, chain=True)
    assert chain.width == 1
    rates = [
        run_method(settings, law, 0.75, 1, 1000, 3).tokens_per_s
        for settings in (best, chain, OneShot(80, 7, 10, pieces=5))
    ]
    assert rates == sorted(rates, reverse=True)
