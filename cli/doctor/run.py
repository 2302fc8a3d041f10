"""`outrider doctor`: runs the checks, measures, reports whether speculation pays, and writes the profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from cli.calibrate import drafting, hardware
from cli.calibrate.grid import QUICK
from cli.calibrate.measured import Measured, profile_of
from cli.calibrate.pair import settings
from cli.calibrate.run import measure_models
from cli.command.errors import CommandError, ModelError
from cli.doctor import checks, payoff
from cli.doctor.payoff import MeasuredCosts
from cli.models import store
from cli.models.resolve import resolve
from shared.planning.profile import write_profile

MAX_LENGTH: Final = 8  # longest draft in the table
EXIT_PASSED: Final = 0
EXIT_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Measurements:
    """What the tables show. alphas: acceptance probability by temperature."""

    costs: MeasuredCosts
    alphas: Mapping[float, float]


def run_doctor(target: str, *, quick: bool, out: Path) -> int:
    """Run the checks; unless quick, measure and write the profile to `out`. Returns the exit code: 1 on failure."""
    console = Console(highlight=False, soft_wrap=True)
    llama = checks.check_llama()
    show(console, llama)
    try:
        folder, draft, name = resolve(target)
    except ModelError as error:
        show(console, checks.Finding("models", False, str(error)))
        return EXIT_FAILED
    findings = [llama, checks.check_model(name) if store.folder(name).path.is_dir() else local(folder)]
    show(console, findings[-1])
    if llama.passed:  # the next check loads llama.cpp into this process, which would die too
        findings.append(checks.check_vocabulary(folder, draft))
        show(console, findings[-1])
    findings.append(checks.check_broker())
    show(console, findings[-1])
    if not all(finding.passed for finding in findings):
        return EXIT_FAILED
    if not quick:
        try:
            examine(console, folder, draft, name, out)
        except (CommandError, OSError) as error:
            show(console, checks.Finding("measuring", False, str(error)))
            return EXIT_FAILED
    return EXIT_PASSED


def examine(console: Console, folder: Path, draft: Path, name: str, out: Path) -> None:
    """Measure the models without a running stack, report, and write a quick profile. Raises CommandError, OSError."""
    console.print("\nMeasuring (about a minute): nothing else should run on this machine")
    busy = hardware.busy_share()
    if busy > hardware.BUSY:
        console.print(
            f"The machine is busy ({busy:.0%} of its cores): results will be worse than on an idle one"
        )
    model, measured = measure_models(console, name, folder, draft, settings(), QUICK)
    profile = profile_of(model, measured, busy, quick=True)
    report(console, measurements(measured, devices=min(2, profile.hardware.cores)))
    write_profile(out, profile)
    console.print(f"\nWritten to {out}; `outrider calibrate` measures more precisely, and the broker as well")


def measurements(measured: Measured, devices: int) -> Measurements:
    """Costs from the passes whose cache is as full as that of the measured drafts. devices: draft workers."""
    verify_ms: dict[int, dict[int, float]] = {}
    for one in measured.passes:
        if one.cached == drafting.CONTEXT:
            verify_ms.setdefault(one.rows, {})[one.new] = one.ms
    alpha = sum(measured.alphas.values()) / len(measured.alphas)
    return Measurements(MeasuredCosts(alpha, measured.draft_ms, verify_ms, devices), measured.alphas)


def report(console: Console, measured: Measurements) -> None:
    """Print the measured costs, the formula, the expected throughput, and whether speculation pays."""
    costs = measured.costs
    console.print("\nDraft model, 1 thread, ms per decode:")
    table = Table(*(f"{n} session{'s' if n > 1 else ''}" for n in costs.draft_ms), box=None)
    table.add_row(*(f"{ms:.1f}" for ms in costs.draft_ms.values()))
    console.print(table)
    console.print("Target, all cores, ms per pass, by rows and new tokens per row:")
    widths = sorted(next(iter(costs.verify_ms.values())))
    table = Table("rows", *(f"{width} new" for width in widths), box=None)
    for users, row in costs.verify_ms.items():
        table.add_row(str(users), *(f"{row[width]:.0f}" for width in widths))
    console.print(table)
    alphas = ", ".join(f"{alpha:.2f} at temperature {at:g}" for at, alpha in measured.alphas.items())
    console.print(f"α: {alphas}; the table below uses their mean, {costs.alpha:.2f}")
    console.print(f"\nExpected tok/s of all users, {costs.devices} draft workers: {payoff.FORMULA}")
    table = Table("users", *(f"k={k}" for k in range(MAX_LENGTH + 1)), box=None)
    for users in costs.verify_ms:
        speeds = (f"{payoff.tokens_per_s(costs, users, k):.0f}" for k in range(MAX_LENGTH + 1))
        table.add_row(str(users), *speeds)
    console.print(table)
    for users in costs.verify_ms:
        console.print(verdict(costs, users))


def verdict(costs: MeasuredCosts, users: int) -> str:
    """Sentence that says whether speculation pays for this number of users, and with which draft length."""
    best = payoff.best_length(costs, users, MAX_LENGTH)
    who = f"{users} user{'s' if users > 1 else ''}"
    if best == 0:
        return f"{who}: speculation does not pay here; the target alone is faster"
    gain = payoff.tokens_per_s(costs, users, best) / payoff.tokens_per_s(costs, users, 0)
    return f"{who}: speculation pays, {gain:.2f} times the target alone with k = {best}"


def show(console: Console, finding: checks.Finding) -> None:
    """Print a check's result as one line."""
    mark = "[green]ok[/green]  " if finding.passed else "[red]FAIL[/red]"
    console.print(f"{mark} {finding.subject}: ", end="")
    console.print(finding.message, markup=False)


def local(folder: Path) -> checks.Finding:
    """The finding for a folder outside the cache, which has no stamp to compare with."""
    return checks.Finding("models", True, f"{folder}: outside the cache, so there are no hashes to check")
