"""A cell: a scenario under one policy. Its live runs are kept in a file, so that a stopped command goes on."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.command.errors import CommandError
from cli.validate.run_metrics import RunMetrics
from loadgen.results.output import replacing
from loadgen.results.result_file import hardware
from shared.scenario.scenario import PolicyConfig
from simulator.scenario import SimulatedScenario

UNSTEADY: Final = 0.05  # a run counts if the calibrations before and after it differ by less


class LiveRepeat(BaseModel):
    """One live run.

    probes_ms: from pass to pass of fixed batches, before and after. stack: what the services counted. wrong: answers
    that are not the target's text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    metrics: RunMetrics
    probes_ms: tuple[float, float]
    stack: dict[str, Any]
    wrong: tuple[str, ...] = ()

    @property
    def probe_ms(self) -> float:
        """The calibrations around the run."""
        return sum(self.probes_ms) / 2

    @property
    def drift(self) -> float:
        """How much slower the machine was after the run than before it; negative if it was faster."""
        before, after = self.probes_ms
        return after / before - 1

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast after the run as before."""
        return abs(self.drift) <= UNSTEADY


class _Kept(BaseModel):
    """The file of a cell."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    of: str
    runs: tuple[LiveRepeat, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """scenario: name of its file. settle_s, measure_s: of each run. about: model and kind of the core."""

    scenario: str
    fields: SimulatedScenario
    policy: PolicyConfig
    settle_s: float
    measure_s: float
    about: str

    @property
    def name(self) -> str:
        """The cell in words."""
        return f"{self.scenario} {self.policy}"

    def file(self, folder: Path) -> Path:
        """Where its live runs are kept."""
        return folder / "live" / self.scenario / f"{str(self.policy).replace(' ', '-')}.json"

    def kept(self, folder: Path) -> list[LiveRepeat]:
        """The live runs that are kept; none if they are of another scenario, model or machine. Raises CommandError."""
        file = self.file(folder)
        try:
            kept = _Kept.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return []
        except ValidationError as error:
            raise CommandError(f"{file}: {error.errors()[0]['msg']}; delete it to run it again") from None
        return list(kept.runs) if kept.of == self._key() else []

    def keep(self, folder: Path, runs: list[LiveRepeat]) -> None:
        """Keep the live runs. Raises OSError."""
        file = self.file(folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            out.write(_Kept(of=self._key(), runs=tuple(runs)).model_dump_json(indent=1) + "\n")

    def _key(self) -> str:
        """Of all that a live run depends on."""
        fields = self.fields.model_dump(
            mode="json", exclude={"about", "policies", "settle", "measure", "core"}
        )
        parts = [fields, str(self.policy), self.settle_s, self.measure_s, self.about, hardware()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
