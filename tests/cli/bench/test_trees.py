"""The benchmark of draft trees: calibration against worked cases, levels timed one by one, and a short run."""

import json
from itertools import count
from math import log
from pathlib import Path

import numpy as np
import pytest

from cli.bench import trees
from cli.bench.level_timer import LevelTimer
from cli.bench.rank_calibration import RankCalibration
from shared.compute.modelled_tree_drafter import ModelledTreeDrafter
from shared.speculative.candidates import Candidate


def candidates(*probabilities: float) -> list[Candidate]:
    """Tokens 0, 1, … with these probabilities."""
    return [Candidate(token, log(one)) for token, one in enumerate(probabilities)]


def test_a_worked_calibration() -> None:
    found = RankCalibration(2)
    found.add(candidates(0.8, 0.1, 0.05), 0)
    found.add(candidates(0.6, 0.3), 1)
    found.add(candidates(0.4), 7)
    found.add(candidates(0.5, 0.25), 0)
    assert [row["right"] for row in found.rows()] == [0.5, 0.25]
    assert [row["predicted"] for row in found.rows()] == pytest.approx([0.575, 0.1625])
    assert found.log_loss == pytest.approx(-(log(0.8) + log(0.3) + log(0.6) + log(0.5)) / 4)


def test_the_error_is_small_for_honest_predictions_and_large_for_others() -> None:
    rng = np.random.default_rng(1)
    honest, sure = RankCalibration(1), RankCalibration(1)
    for _ in range(4000):
        probability = float(rng.uniform(0.05, 0.95))
        token = int(rng.random() > probability)
        honest.add(candidates(probability), token)
        sure.add(candidates(0.95), token)
    assert honest.error(0) < 0.03
    assert sure.error(0) == pytest.approx(0.45, abs=0.03)
    assert honest.log_loss < sure.log_loss


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_level_is_timed_alone(nodes: int) -> None:
    """Two readings of the clock around one call; the tree below is whole each time."""
    drafter, ticks = ModelledTreeDrafter([0.1] * 8, vocab=1000), count()
    timer = LevelTimer(drafter, 100, 8, clock=lambda: float(next(ticks)))
    assert [timer.level_s(nodes) for _ in range(3)] == [1.0] * 3
    assert next(ticks) == 6


@pytest.mark.model
@pytest.mark.slow
def test_a_short_run_writes_its_result(tmp_path: Path, models_dir: Path) -> None:
    out = tmp_path / "draft-trees.json"
    trees.main(tokens=4, repeats=2, out=out)
    result = json.loads(out.read_text())
    assert result["kind"] == "draft-trees"
    assert len(result["ranks"]) == 9
    assert [row["nodes"] for row in result["costs"]] == [1, 2, 4, 8]
