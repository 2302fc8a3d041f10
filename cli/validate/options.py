"""Options of `outrider validate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.scenario.scenario import Scenario

QUICK_SETTLE_S: Final = 1.5
QUICK_MEASURE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ValidateOptions:
    """What to run.

    tuning: scenario on which the serving costs are fitted; None = the profile's own. settle_s, measure_s: 0 = the
    scenario's, or with `quick` short ones. live: run what is not kept yet. any_profile: take a profile of another
    machine, model or version. drafters: real draft workers in place of emulated devices.
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
    quick: bool
    drafters: bool
    out: Path
    state_dir: Path

    def times_s(self, scenario: Scenario) -> tuple[float, float]:
        """Seconds that are cut off at the start of a run, and seconds that count."""
        usual = (
            (QUICK_SETTLE_S, QUICK_MEASURE_S)
            if self.quick
            else (scenario.settle.at(0), scenario.measure.at(0))
        )
        return self.settle_s or usual[0], self.measure_s or usual[1]
