"""The doctor's round: look, measure, say whether speculation pays, write the profile."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from services.doctor import checks, hardware, payoff
from services.doctor.payoff import Costs
from services.models import store
from services.models.resolve import ModelError, resolve

LONGEST: Final = 8  # draft length looked at
TEMPERATURES: Final = (0.0, 1.0)
BUSY: Final = 0.25  # share of the cores in use beyond which figures mislead
WELL: Final = 0
UNWELL: Final = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured; alphas by temperature; busy_before: share of the cores others used."""

    costs: Costs
    alphas: Mapping[float, float]
    busy_before: float
    target_dtype: str


def run_doctor(target: str, *, quick: bool, out: Path) -> int:
    """Check, measure unless quick, write the profile to `out`. Exit code: 0, or 1 when a check failed."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        folder, draft, name = resolve(target)
    except ModelError as error:
        show(console, checks.Finding("models", False, str(error)))
        return UNWELL
    findings = [checks.check_model(name) if store.folder(name).path.is_dir() else local(folder)]
    show(console, findings[-1])
    findings.append(checks.check_vocabulary(folder, draft))
    show(console, findings[-1])
    findings.append(checks.check_broker())
    show(console, findings[-1])
    if not all(finding.well for finding in findings):
        return UNWELL
    if not quick:
        console.print("\nMeasuring (about a minute): nothing else should run on this machine")
        busy = hardware.busy_share()
        if busy > BUSY:
            console.print(f"It is busy now ({busy:.0%} of its cores): the figures will be worse than it is")
        measured = measure(folder, draft, busy)
        tell(console, measured)
        write(out, name, measured)
        console.print(f"\nWritten to {out}")
    return WELL


def measure(folder: Path, draft: Path, busy: float) -> Measured:
    """Load both models and measure them, one thread for the draft model, all cores for the target."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when transformers is first loaded
    from services.doctor import measure as measuring  # noqa: PLC0415  # loads nothing heavy before it is needed
    from services.draft_worker.llama_drafter import Limits, LlamaDrafter  # noqa: PLC0415  # a native library
    from services.verifier.build import warm  # noqa: PLC0415
    from services.verifier.loading import load_target  # noqa: PLC0415  # torch

    drafter = LlamaDrafter(draft, Limits(sessions=max(measuring.SESSIONS), kv_tokens=4096), threads=1)
    target = load_target(str(folder), kv_tokens=4096, prefix_sharing=False)
    warm(target)
    alphas = measuring.alpha(target, drafter, folder, TEMPERATURES)
    costs = Costs(
        alpha=sum(alphas.values()) / len(alphas),
        draft_ms=measuring.draft_ms(drafter),
        verify_ms=measuring.verify_ms(target),
        devices=min(2, hardware.hardware()["cores"]),
    )
    drafter.close()
    return Measured(
        costs, alphas, busy, json.loads((folder / "config.json").read_text()).get("dtype", "float32")
    )


def tell(console: Console, measured: Measured) -> None:
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


def write(out: Path, name: str, measured: Measured) -> None:
    """The profile, as JSON."""
    costs = measured.costs
    expected = {
        str(users): [round(payoff.tokens_per_s(costs, users, k), 2) for k in range(LONGEST + 1)]
        for users in costs.verify_ms
    }
    profile: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware.hardware(),
        "busy_before": round(measured.busy_before, 2),
        "versions": hardware.versions(),
        "model": name,
        "target_dtype": measured.target_dtype,
        "draft_workers": costs.devices,
        "draft_threads": 1,
        "draft_ms_by_sessions": _rounded(costs.draft_ms),
        "verify_ms_by_rows_and_new_tokens": {str(n): _rounded(row) for n, row in costs.verify_ms.items()},
        "alpha_by_temperature": _rounded(measured.alphas),
        "expected_tokens_per_s_by_users_and_k": expected,
        "best_k_by_users": {str(n): payoff.best_length(costs, n, LONGEST) for n in costs.verify_ms},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".tmp")
    partial.write_text(json.dumps(profile, indent=2) + "\n", encoding="utf-8")
    partial.replace(out)


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


def _rounded(measured: Mapping[Any, float]) -> dict[str, float]:
    return {str(key): round(value, 3) for key, value in measured.items()}
