"""`outrider calibrate`: load, measure, fit, run a stack, write the profile."""

import asyncio
import gc
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli.calibrate import hardware, measured
from cli.calibrate.grid import Grid
from cli.calibrate.pair import Model, loaded, settings
from cli.calibrate.report import print_profile
from cli.calibrate.stack import measure_broker
from cli.command.cli_errors import expected
from cli.command.errors import CommandError, ModelError
from cli.models.llama_guard import require_llama
from cli.models.resolve import resolve
from loadgen.measuring.progress import Steps
from shared.broker.embedded import NoServer, server_binary
from shared.planning.cost import Packed
from shared.planning.profile import Profile, write_profile
from shared.runtime.errors import words
from shared.runtime.settings import VerifierSettings


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What is to be measured. threads: of the verifier, 0 = all cores. broker: run a stack as well."""

    target: str
    draft: str
    dtype: str
    device: str
    threads: int
    grid: Grid
    quick: bool
    broker: bool
    out: Path
    state_dir: Path


def run_calibrate(wanted: CalibrateOptions) -> None:
    """Measure and write. Raises one of cli_errors.expected().

    The profile is written before the stack is run, without the broker's share, and again with it: whoever interrupts
    has what was measured.
    """
    console = Console(highlight=False, soft_wrap=True)
    verifier = settings(wanted.dtype, wanted.device, wanted.threads)
    folder, draft, name = _checked(wanted)
    busy = hardware.busy_share()
    console.print("Measuring: nothing else should run on this machine")
    if busy > hardware.BUSY:
        console.print(f"It is busy now ({busy:.0%} of its cores): figures will be worse than it is")
    model, figures = measure_models(console, name, folder, draft, verifier, wanted.grid)
    profile = measured.profile_of(model, figures, busy, quick=wanted.quick)
    _write(wanted.out, profile)
    if wanted.broker:
        profile = _with_broker(console, wanted, model, profile)
        _write(wanted.out, profile)
    print_profile(console, profile)
    console.print(f"\nWritten to {wanted.out}; `outrider plan --profile {wanted.out}` reads it")


def measure_models(
    console: Console, name: str, folder: Path, draft: Path, verifier: VerifierSettings, grid: Grid
) -> tuple[Model, measured.Measured]:
    """Load both models, measure, and give their memory back. Raises CommandError."""
    with loaded(name, folder, draft, verifier, grid) as pair, Steps(console) as steps:
        step = steps.step("passes and drafts", measured.steps(grid))
        return pair.model, measured.measure(pair, grid, step.advance)


def _checked(wanted: CalibrateOptions) -> tuple[Path, Path, str]:
    """Models found, file writable, broker and llama.cpp work: before minutes are spent. Raises CommandError."""
    try:
        wanted.out.parent.mkdir(parents=True, exist_ok=True)
        if wanted.out.is_dir():
            raise CommandError(f"--out {wanted.out}: is a folder; name a file")
        if wanted.broker:
            server_binary()
        require_llama()
        return resolve(wanted.target, wanted.draft)
    except OSError as error:
        raise CommandError(f"--out {wanted.out}: {error}") from None
    except NoServer as error:
        raise CommandError(f"{error}; or leave the running stack out with --no-broker") from None
    except ModelError as error:
        raise CommandError(str(error)) from None


def _with_broker(console: Console, wanted: CalibrateOptions, model: Model, profile: Profile) -> Profile:
    """The profile with the broker's share. Raises CommandError."""
    law = Packed(profile.pass_beta_ms.packed, profile.server.per_token_ms, profile.server.per_context_ms)
    gc.collect()  # the models: the stack loads its own
    try:
        with console.status("a running stack") as status:
            broker = asyncio.run(
                measure_broker(model, law, wanted.state_dir / "calibrate", status.update, quick=wanted.quick)
            )
    except expected() as error:
        raise CommandError(
            f"{words(error)}. The profile is at {wanted.out}, without the broker's share"
        ) from None
    return profile.with_broker(broker)


def _write(out: Path, profile: Profile) -> None:
    try:
        write_profile(out, profile)
    except OSError as error:
        raise CommandError(f"--out {out}: {error}") from None
