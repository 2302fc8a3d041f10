"""Which runs of a sweep need not be repeated: those whose inputs, and the code, are as they were."""

import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from cli.simulate.planned_run import PlannedRun

ROOT: Final = Path(__file__).resolve().parents[2]
CODE: Final = ("cli/simulate", "simulator", "loadgen", "services", "shared")
MARK: Final = ".inputs"  # of the file beside a result: the hash of what it was made of


def is_finished(run: PlannedRun) -> bool:
    """Whether the run's result is there, made of these inputs."""
    mark = _mark(run)
    try:
        return run.result.is_file() and mark.read_text(encoding="utf-8") == inputs_hash(run)
    except OSError:
        return False


def mark_finished(run: PlannedRun) -> None:
    """Note that the result is complete and what it was made of. Raises OSError."""
    _mark(run).write_text(inputs_hash(run), encoding="utf-8")


def mark_unfinished(run: PlannedRun) -> None:
    """Forget an older result. Raises OSError."""
    _mark(run).unlink(missing_ok=True)


def inputs_hash(run: PlannedRun) -> str:
    """SHA-256 of all that determines a result."""
    simulation = run.simulation
    inputs: dict[str, Any] = {
        "code": _code_hash(),
        "scenario": simulation.scenario.model_dump(mode="json", exclude={"policies", "about", "seed"}),
        "policy": simulation.policy.model_dump(mode="json"),
        "seed": simulation.seed,
        "settle_s": simulation.settle_s,
        "measure_s": simulation.measure_s,
        "spans": simulation.trace,
        "profile": simulation.profile.model_dump(mode="json", by_alias=True) if simulation.profile else None,
        "recordings": [_hash_of(Path(name)) for name in sorted(simulation.replays)],
        "arrivals": _hash_of(Path((simulation.scenario.load or {}).get("trace", ""))),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@cache
def _code_hash() -> str:
    """SHA-256 of the code that a simulation runs, and of the versions of Python and NumPy."""
    digest = hashlib.sha256(f"{platform.python_version()} {np.__version__}".encode())
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"\0{file.relative_to(ROOT)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _hash_of(file: Path) -> str:
    """SHA-256 of a file, "" where none is named."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _mark(run: PlannedRun) -> Path:
    return run.result.with_suffix(MARK)
