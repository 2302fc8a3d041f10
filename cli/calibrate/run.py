"""`outrider calibrate`: load, measure, fit, run a stack, write the profile."""

import asyncio
import gc
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli.calibrate import hardware, measured
from cli.calibrate.grid import Grid
from cli.calibrate.pair import CalibratedModel, loaded, settings
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
    """What to measure. threads: of the verifier; 0 = all cores. broker: run a stack as well."""

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


def run_calibrate(options: CalibrateOptions) -> None:
    """Measure and write the profile. Raises one of cli_errors.expected().

    The profile is written before the stack runs, without the broker's share, and again with it, so that an interrupted
    command leaves what it measured.
    """
    console = Console(highlight=False, soft_wrap=True)
    verifier = settings(options.dtype, options.device, options.threads)
    folder, draft, name = _checked(options)
    busy = hardware.busy_share()
    console.print("Measuring: nothing else should run on this machine")
    if busy > hardware.BUSY:
        console.print(
            f"The machine is busy ({busy:.0%} of its cores): results will be worse than on an idle one"
        )
    model, measurements = measure_models(console, name, folder, draft, verifier, options.grid)
    profile = measured.profile_of(model, measurements, busy, quick=options.quick)
    _write(options.out, profile)
    if options.broker:
        profile = _with_broker(console, options, model, profile)
        _write(options.out, profile)
    print_profile(console, profile)
    console.print(f"\nWritten to {options.out}; `outrider plan --profile {options.out}` reads it")


def measure_models(
    console: Console, name: str, folder: Path, draft: Path, verifier: VerifierSettings, grid: Grid
) -> tuple[CalibratedModel, measured.Measured]:
    """Load both models, measure, and free their memory. Raises CommandError."""
    with loaded(name, folder, draft, verifier, grid) as pair, Steps(console) as steps:
        step = steps.step("passes and drafts", measured.steps(grid))
        return pair.model, measured.measure(pair, grid, step.advance)


def _checked(options: CalibrateOptions) -> tuple[Path, Path, str]:
    """Resolve the models, and check output file, broker and llama.cpp before the measurement. Raises CommandError."""
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        if options.out.is_dir():
            raise CommandError(f"--out {options.out}: is a folder; name a file")
        if options.broker:
            server_binary()
        require_llama()
        return resolve(options.target, options.draft)
    except OSError as error:
        raise CommandError(f"--out {options.out}: {error}") from None
    except NoServer as error:
        raise CommandError(f"{error}; or leave the running stack out with --no-broker") from None
    except ModelError as error:
        raise CommandError(str(error)) from None


def _with_broker(
    console: Console, options: CalibrateOptions, model: CalibratedModel, profile: Profile
) -> Profile:
    """The profile with the broker's share. Raises CommandError."""
    law = Packed(profile.pass_beta_ms.packed, profile.server.per_token_ms, profile.server.per_context_ms)
    gc.collect()  # frees the models: the stack loads its own
    try:
        with console.status("a running stack") as status:
            broker = asyncio.run(
                measure_broker(
                    model, law, options.state_dir / "calibrate", status.update, quick=options.quick
                )
            )
    except expected() as error:
        raise CommandError(
            f"{words(error)}. The profile is at {options.out}, without the broker's share"
        ) from None
    return profile.with_broker(broker)


def _write(out: Path, profile: Profile) -> None:
    try:
        write_profile(out, profile)
    except OSError as error:
        raise CommandError(f"--out {out}: {error}") from None
