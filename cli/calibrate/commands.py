"""`outrider calibrate`: its options. Heavy libraries are imported inside the command."""

from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, ProfileFile, StateDir


def calibrate(
    target: Annotated[
        str, typer.Option(help="Target: name of a fetched pair, hub name, folder or .gguf.")
    ] = "smollm2",
    draft: Annotated[str, typer.Option(help="Draft model (.gguf); empty = the pair's own.")] = "",
    dtype: Annotated[str, typer.Option(help="Of the target: auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="Where the target runs: auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, max=1024, help="Of the verifier; 0 = all cores.")] = 0,
    widths: Annotated[str, typer.Option(help="Rows of a pass, like 1,4,16; empty = 1,2,4,8,16.")] = "",
    lengths: Annotated[str, typer.Option(help="New tokens of a row; empty = 1,2,3,5,9.")] = "",
    contexts: Annotated[str, typer.Option(help="Cached tokens of a row; empty = 32,128,512.")] = "",
    quick: Annotated[bool, typer.Option(help="Fewer shapes and repeats; a shorter running stack.")] = False,
    broker: Annotated[bool, typer.Option(help="Run a stack, too, for the broker's share of a batch.")] = True,
    out: ProfileFile = STATE / "profile.json",
    state: StateDir = STATE,
) -> None:
    """Measure drafting, verifying and the broker on this machine; write a profile that `outrider plan` reads.

    Passes of every width, length and context are timed with the real target. Two cost laws are fitted (packed:
    Outrider's; padded: the papers') and tested on passes held out of the fit. Then a real stack serves a few users,
    and the time of a batch outside its pass is added to both laws' beta_ms. This takes minutes, during which nothing
    else should run. `outrider plan question.json --profile .outrider/profile.json` plans with it.
    """
    from cli.calibrate.grid import FULL, QUICK, grid
    from cli.calibrate.run import CalibrateOptions, run_calibrate

    with cli_errors():
        shapes = grid(QUICK if quick else FULL, widths, lengths, contexts)
        run_calibrate(
            CalibrateOptions(
                target, draft, dtype, device, threads, shapes, quick, broker, out, state_dir=state
            )
        )
