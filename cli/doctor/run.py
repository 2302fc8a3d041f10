"""The doctor's round: look, measure, say whether speculation pays, write the profile."""

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
from cli.doctor.payoff import Costs
from cli.models import store
from cli.models.resolve import resolve
from shared.planning.profile import write_profile

LONGEST: Final = 8  # draft length looked at
WELL: Final = 0
UNWELL: Final = 1


@dataclass(frozen=True, slots=True)
class Figures:
    """What the tables are made of; alphas by temperature."""

    costs: Costs
    alphas: Mapping[float, float]


def run_doctor(target: str, *, quick: bool, out: Path) -> int:
    """Check, measure unless quick, write the profile to `out`. Exit code: 0, or 1 when a check failed."""
    console = Console(highlight=False, soft_wrap=True)
    llama = checks.check_llama()
    show(console, llama)
    try:
        folder, draft, name = resolve(target)
    except ModelError as error:
        show(console, checks.Finding("models", False, str(error)))
        return UNWELL
    findings = [llama, checks.check_model(name) if store.folder(name).path.is_dir() else local(folder)]
    show(console, findings[-1])
    if llama.well:  # what follows loads llama.cpp into this process
        findings.append(checks.check_vocabulary(folder, draft))
        show(console, findings[-1])
    findings.append(checks.check_broker())
    show(console, findings[-1])
    if not all(finding.well for finding in findings):
        return UNWELL
    if not quick:
        try:
            examine(console, folder, draft, name, out)
        except (CommandError, OSError) as error:
            show(console, checks.Finding("measuring", False, str(error)))
            return UNWELL
    return WELL


def examine(console: Console, folder: Path, draft: Path, name: str, out: Path) -> None:
    """Measure, tell, and write the quick profile: no running stack. Raises CommandError and OSError."""
    console.print("\nMeasuring (about a minute): nothing else should run on this machine")
    busy = hardware.busy_share()
    if busy > hardware.BUSY:
        console.print(f"It is busy now ({busy:.0%} of its cores): the figures will be worse than it is")
    model, measured = measure_models(console, name, folder, draft, settings(), QUICK)
    profile = profile_of(model, measured, busy, quick=True)
    tell(console, figures(measured, devices=min(2, profile.hardware.cores)))
    write_profile(out, profile)
    console.print(f"\nWritten to {out}; `outrider calibrate` measures more closely, and the broker as well")


def figures(measured: Measured, devices: int) -> Figures:
    """Of the passes that have as much in the cache as the drafts had, for so many draft workers."""
    verify_ms: dict[int, dict[int, float]] = {}
    for one in measured.passes:
        if one.cached == drafting.CONTEXT:
            verify_ms.setdefault(one.rows, {})[one.new] = one.ms
    alpha = sum(measured.alphas.values()) / len(measured.alphas)
    return Figures(Costs(alpha, measured.draft_ms, verify_ms, devices), measured.alphas)


def tell(console: Console, measured: Figures) -> None:
    """The figures, the formula, and whether speculation pays."""
    costs = measured.costs
    console.print("\nDraft model, 1 thread, ms a decode:")
    table = Table(*(f"{n} session{'s' if n > 1 else ''}" for n in costs.draft_ms), box=None)
    table.add_row(*(f"{ms:.1f}" for ms in costs.draft_ms.values()))
    console.print(table)
    console.print("Target, all cores, ms a pass by rows and new tokens a row:")
    widths = sorted(next(iter(costs.verify_ms.values())))
    table = Table("rows", *(f"{width} new" for width in widths), box=None)
    for users, row in costs.verify_ms.items():
        table.add_row(str(users), *(f"{row[width]:.0f}" for width in widths))
    console.print(table)
    told = ", ".join(f"{alpha:.2f} at temperature {at:g}" for at, alpha in measured.alphas.items())
    console.print(f"α: {told}; {costs.alpha:.2f} taken below")
    console.print(f"\nExpected tok/s of all users, {costs.devices} draft workers: {payoff.FORMULA}")
    table = Table("users", *(f"k={k}" for k in range(LONGEST + 1)), box=None)
    for users in costs.verify_ms:
        speeds = (f"{payoff.tokens_per_s(costs, users, k):.0f}" for k in range(LONGEST + 1))
        table.add_row(str(users), *speeds)
    console.print(table)
    for users in costs.verify_ms:
        console.print(verdict(costs, users))


def verdict(costs: Costs, users: int) -> str:
    """One sentence for so many users."""
    best = payoff.best_length(costs, users, LONGEST)
    who = f"{users} user{'s' if users > 1 else ''}"
    if best == 0:
        return f"{who}: speculation does not pay here; the target alone is faster"
    gain = payoff.tokens_per_s(costs, users, best) / payoff.tokens_per_s(costs, users, 0)
    return f"{who}: speculation pays, {gain:.2f} times the target alone with k = {best}"


def show(console: Console, finding: checks.Finding) -> None:
    """One check, as a line."""
    mark = "[green]ok[/green]  " if finding.well else "[red]FAIL[/red]"
    console.print(f"{mark} {finding.what}: ", end="")
    console.print(finding.words, markup=False)


def local(folder: Path) -> checks.Finding:
    """A folder that is not of the cache has no hashes to compare with."""
    return checks.Finding(
        "models", True, f"{folder}: not in the cache, so there are no hashes to compare with"
    )
