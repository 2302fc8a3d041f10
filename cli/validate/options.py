"""Options of `outrider validate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

QUICK_SETTLE_S: Final = 1.5
QUICK_MEASURE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ValidateOptions:
    """What to run.

    tuning: scenario on which the serving costs are fitted; None = the profile's own. target: "" with a modelled core.
    settle_s, measure_s: 0 = the scenario's. live: run what is not kept yet. any_profile: take a profile of another
    machine, model or version.
    """

    scenarios: Sequence[Path]
    tuning: Path | None
    target: str
    dtype: str
    profile: Path
    repeats: int
    settle_s: float
    measure_s: float
    modelled: bool
    live: bool
    any_profile: bool
    out: Path
    state_dir: Path
