"""Options of `outrider simulate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What to run. only: "" = all of a scenario's policies. seed, settle_s, measure_s: 0 = the scenario's.

    sweep: fields with their values. jobs: runs at the same time.
    """

    scenarios: Sequence[Path]
    only: str = ""
    profile: Path | None = None
    seed: int = 0
    settle_s: float = 0.0
    measure_s: float = 0.0
    trace: bool = False
    sweep: Sequence[str] = ()
    jobs: int = 1
    out: Path = Path(".outrider/simulate")
    quiet: bool = False
