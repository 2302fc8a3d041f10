"""Every cell of a grid is timed, and the law behind the times is found again."""

import pytest

from cli.calibrate.grid import FULL, QUICK, Grid, grid
from cli.calibrate.passes import measure_passes, steps
from cli.command.errors import CommandError
from shared.planning.fit import fit_packed
from tests.cli.calibrate.worlds import Clock, TimedTarget

GRID = Grid((1, 2, 4), (1, 2, 5), (32, 128), 3)


def target(**options: object) -> TimedTarget:
    law = {"beta_ms": 30.0, "per_token_ms": 1.5, "per_context_ms": 0.01}
    return TimedTarget(Clock(), **{**law, **options})


def test_every_cell_is_timed_and_every_step_told() -> None:
    one = target()
    ticks: list[str] = []
    passes = measure_passes(one, GRID, ticks.append, one.clock)
    assert [(p.rows, p.new, p.cached) for p in passes] == [(c.rows, c.new, c.cached) for c in GRID.cells()]
    assert all(p.ms == pytest.approx(30 + 1.5 * p.rows * p.new + 0.01 * p.rows * p.cached) for p in passes)
    law = fit_packed(passes)
    assert law.beta_ms == pytest.approx(30, rel=1e-3)
    assert len(ticks) == steps(GRID)
    assert not one.sessions()


def test_repeats_go_round_the_grid_there_and_back() -> None:
    one = target()
    measure_passes(one, GRID, lambda _: None, one.clock)
    cells = [(cell.rows, cell.new, cell.cached) for cell in GRID.cells()]
    assert one.passed[-3 * len(cells) :] == [*cells, *cells[::-1], *cells[1:], cells[0]]


def test_a_slow_moment_does_not_show_in_a_median() -> None:
    one = target()
    count = 0

    def clock() -> float:
        nonlocal count
        count += 1
        return one.clock.now_s + (9.0 if 40 < count <= 41 else 0.0)

    passes = measure_passes(one, GRID, lambda _: None, clock)
    assert all(p.ms < 100 for p in passes)


def test_what_does_not_fit_names_the_setting() -> None:
    with pytest.raises(
        CommandError, match=r"--contexts and --lengths: 133 tokens together, the model takes 64"
    ):
        measure_passes(target(max_context=64), GRID, lambda _: None)
    with pytest.raises(CommandError, match="OUTRIDER_KV_TOKENS"):
        measure_passes(target(kv_tokens=256), GRID, lambda _: None)


@pytest.mark.parametrize("which", [FULL, QUICK])
def test_the_grids_fit_a_deployments_pool(which: Grid) -> None:
    assert which.kv_tokens(16) <= 16384
    assert target(kv_tokens=which.kv_tokens(16)).pool_tokens >= which.kv_tokens(16)


def test_grids_by_hand() -> None:
    found = grid(QUICK, "", "9,1,5, 1", "64")
    assert (found.widths, found.lengths, found.contexts) == (QUICK.widths, (1, 5, 9), (64,))
    assert grid(FULL, "", "", "") == FULL


@pytest.mark.parametrize(
    ("widths", "lengths", "contexts"),
    [("1,2", "1", "32"), ("4", "1,2,3,4,5,6,7,8", "64"), ("1,2,3", "1", "32,64,128")],
)
def test_a_grid_that_no_law_can_be_fitted_on(widths: str, lengths: str, contexts: str) -> None:
    with pytest.raises(
        CommandError, match=r"--widths, --lengths and --contexts: .* too few or too much alike"
    ):
        grid(FULL, widths, lengths, contexts)


@pytest.mark.parametrize("text", ["0", "a", "1,,2", "-3", "1;2", "1.5", "99999999"])
def test_a_bad_list_is_named(text: str) -> None:
    with pytest.raises(CommandError, match=r"--widths .*: must be positive integers separated by commas"):
        grid(FULL, text, "", "")
