"""`outrider train-awc`: its options. Heavy libraries are imported inside the command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command.cli_errors import cli_errors
from cli.command.cores import cores
from cli.command.options import STATE, OutFolder

RECORDINGS: Final = Path(__file__).resolve().parents[2] / "scenarios" / "recordings"


def train_awc(
    cells: Annotated[int, typer.Option(min=5, max=1000, help="Cells to simulate.")] = 60,
    seed: Annotated[int, typer.Option(min=0, max=1 << 31, help="Of cells and network.")] = 1,
    recording: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Files of `outrider record`; default: those shipped."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, max=1024, help="Processes at a time; 0 = all cores.")
    ] = 0,
    out: OutFolder = STATE / "train-awc",
) -> None:
    """Train the window controller `awc` on simulations: minutes on two cores.

    Cells are drawn at random: links of 2 to 320 ms, loads of 0.2 to 1.3, fast and slow devices, verifiers bound by
    passes or by tokens, recorded and modelled acceptance. Each is simulated under every draft length with the same
    requests and the same luck. So at every moment that `awc` would have decided, it is known what a token would have
    cost under each length, the waits of all others included; a network learns to predict that.

    Writes OUT/awc_weights.json and OUT/report.json, with what the network is worth in cells that it did not see, beside
    goodput and fixed lengths. To ship it, replace shared/planning/windows/awc_weights.json. Simulated cells are kept in
    OUT/cells: after Ctrl-C the same command goes on. Delete them after a change of the code.
    """
    from cli.train_awc.run import TrainOptions, train
    from loadgen.commands.exit import progress_console
    from shared.compute.acceptance_record import RecordError

    found = tuple(recording or sorted(RECORDINGS.glob("*.json")))
    with cli_errors(RecordError):
        train(TrainOptions(cells, seed, found, jobs or cores(), out), progress_console())
