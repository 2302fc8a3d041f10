"""The training of `awc`: cells, labels, fit and report, on examples whose best answer is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cli.command.errors import CommandError
from cli.train_awc.cell import ARMS, draw_cell
from cli.train_awc.cell_run import run_cell, write_arrays
from cli.train_awc.dataset import CHOICES, FOLDS, Examples, read_examples
from cli.train_awc.fit import fit, held_out_costs, judge
from cli.train_awc.run import REPORT, WEIGHTS, TrainOptions, train
from shared.planning.windows.cost_network import read_weights
from shared.planning.windows.sensors import FEATURES
from shared.planning.windows.window import MAX_K

COUNT, SESSIONS = len(FEATURES), 3


def write_cell(file: Path, took_ms: np.ndarray, present: np.ndarray, arm: np.ndarray, seed: int = 0) -> None:
    """A cell's file with answers of ten tokens and random features."""
    rng = np.random.default_rng(seed)
    arrays = {
        "took_ms": took_ms,
        "tokens": np.full(took_ms.shape[1], 10.0),
        "features": rng.normal(size=(len(present), COUNT)).astype(np.float32),
        "predicted": np.zeros((len(present), MAX_K + 1), dtype=np.float32),
        "arm": arm,
        "present": present,
    }
    write_arrays(file, arrays, f"cell {seed}")


def cells(folder: Path, best: int = 2) -> list[Path]:
    """Cells in which the arm `best` costs 10 ms a token, and each arm further away a fifth more."""
    took = 100.0 * 1.2 ** np.abs(np.arange(len(ARMS)) - best)
    files = [folder / f"{number}.npz" for number in range(2 * FOLDS)]
    for number, file in enumerate(files):
        write_cell(
            file, np.tile(took[:, None], SESSIONS), np.ones((9, SESSIONS), bool), np.arange(9) % 7, number
        )
    return files


def test_a_cell_is_the_same_whenever_it_is_drawn() -> None:
    assert draw_cell(3, 1, ()) == draw_cell(3, 1, ())
    assert draw_cell(3, 1, ()).digest != draw_cell(4, 1, ()).digest != draw_cell(4, 2, ()).digest
    assert all(draw_cell(number, 1, ()).scenario.devices for number in range(50))


def test_a_label_is_the_time_of_the_sessions_that_are_there_for_each_of_their_tokens(tmp_path: Path) -> None:
    took = np.outer(np.arange(1.0, len(ARMS) + 1), [100.0, 200.0, 900.0])
    write_cell(tmp_path / "one.npz", took, np.array([[True, True, False]]), np.array([0]))
    (found,) = _of_one(tmp_path / "one.npz").log_costs
    of_arms = np.log(300.0 * np.arange(1, len(ARMS) + 1) / 20.0)
    assert found[list(ARMS)] == pytest.approx(of_arms)
    assert found[3] == pytest.approx((found[2] + found[4]) / 2)  # between two arms


def test_failed_requests_are_left_out_under_every_arm(tmp_path: Path) -> None:
    took = np.full((len(ARMS), 2), 100.0)
    took[3, 1] = np.nan
    write_cell(tmp_path / "one.npz", took, np.array([[True, True], [False, True]]), np.array([0, 0]))
    found = _of_one(tmp_path / "one.npz")
    assert len(found.log_costs) == 1
    assert found.log_costs == pytest.approx(np.log(10.0))


def test_looks_under_a_bad_arm_count_less_and_every_cell_alike(tmp_path: Path) -> None:
    found = read_examples(cells(tmp_path))
    first = found.weights[found.cell == 0]
    assert first[2] == max(first) > first[1] > first[0]
    assert [found.weights[found.cell == cell].sum() for cell in range(10)] == pytest.approx([1.0] * 10)


def test_whole_cells_are_held_out(tmp_path: Path) -> None:
    found = read_examples(cells(tmp_path))
    assert set(found.of(found.fold == 4).cell) == {4, 9}
    assert set(found.of(found.fold != 4).cell) == {0, 1, 2, 3, 5, 6, 7, 8}
    with pytest.raises(CommandError, match="at least 5"):
        read_examples(cells(tmp_path)[:3])


def test_the_network_learns_the_best_length_that_goodput_does_not_see(tmp_path: Path) -> None:
    found = read_examples(cells(tmp_path))
    judged = judge(held_out_costs(found, 1, epochs=200), found)
    assert judged["awc"] == pytest.approx(0.0, abs=0.02)
    assert judged["goodput"] == pytest.approx(1.2**2 - 1)  # it sees no difference, and takes k = 0
    assert judged["best_static"] == judged["best_static_of_each_cell"] == pytest.approx(0.0)


def test_the_same_examples_and_seed_give_the_same_network(tmp_path: Path) -> None:
    found = read_examples(cells(tmp_path))
    first, second, other = (fit(found, seed, {}, epochs=20) for seed in (1, 1, 2))
    assert (first.enter == second.enter).all()
    assert (first.exit == second.exit).all()
    assert (first.enter != other.enter).any()
    assert replace(found, cell=found.cell + 1).digest != found.digest == read_examples(cells(tmp_path)).digest


@pytest.mark.slow
def test_a_tiny_sweep_trains_resumes_and_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.train_awc.cell.REQUESTS", 6)
    for number in range(FOLDS):
        cell = draw_cell(number, 1, ())
        arrays = run_cell(cell)
        assert np.isfinite(arrays["took_ms"]).all()
        assert arrays["took_ms"].shape == (len(ARMS), len(arrays["tokens"]))
        (tmp_path / "cells").mkdir(exist_ok=True)
        write_arrays(tmp_path / "cells" / f"{number:03}.npz", arrays, cell.digest)
    options = TrainOptions(FOLDS, 1, (), 1, tmp_path)
    train(options, Console(quiet=True))  # all cells are there: none is simulated again
    first = (tmp_path / WEIGHTS).read_bytes()
    train(options, Console(quiet=True))
    assert (tmp_path / WEIGHTS).read_bytes() == first
    assert read_weights(tmp_path / WEIGHTS).choices == CHOICES
    assert set(json.loads((tmp_path / REPORT).read_text())["held_out_regret"]["all"]) >= {
        "awc",
        "goodput",
        "static_4",
    }


def _of_one(file: Path) -> Examples:
    """The examples of one cell, read beside cells of another kind."""
    found = read_examples([*cells(file.parent)[:4], file])
    return found.of(found.cell == 4)
