"""Runs cells live, each between two calibrations, and keeps them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.validate.cell import Cell, LiveRepeat
from cli.validate.core_model import Core, Texts
from cli.validate.live import LiveScenario, live_scenario
from cli.validate.run_metrics import metrics_of
from loadgen.metrics.summary import Window
from loadgen.run.scenario_users import Users

ATTEMPTS: Final = 3  # of a run that the machine disturbs; the steadiest counts
WARM_UP_S: Final = 1.0

OnRun = Callable[[Cell, LiveRepeat], None]


@dataclass(frozen=True, slots=True)
class LiveRuns:
    """The live side of one scenario. file: the scenario's; folder: where runs are kept."""

    cells: Sequence[Cell]
    file: Path
    core: Core
    texts: Texts
    folder: Path

    def missing(self, repeats: int) -> int:
        """Runs that are not kept yet."""
        return sum(max(0, repeats - len(cell.kept(self.folder))) for cell in self.cells)

    async def run(self, repeats: int, on_run: OnRun) -> None:
        """Run what is missing, every policy once before one runs again. Raises CommandError."""
        if not self.missing(repeats):
            return
        fields = self.cells[0].fields
        devices = [device.name for device in self.core.devices(fields)]
        options = self.core.stack(fields, self.file, self.texts)
        async with live_scenario(options, fields, devices, self.texts.prompts) as live:
            await live.run(
                self.cells[-1].policy, 0.0, WARM_UP_S
            )  # what is learnt first, no policy pays alone
            before_ms = await live.probe_ms()
            for repeat in range(repeats):
                for cell in self.cells[:: -1 if repeat % 2 else 1]:
                    kept = cell.kept(self.folder)
                    if len(kept) <= repeat:
                        run = await self._steady(live, cell, before_ms)
                        cell.keep(self.folder, [*kept, run])
                        on_run(cell, run)
                        before_ms = run.probes_ms[1]

    async def _steady(self, live: LiveScenario, cell: Cell, before_ms: float) -> LiveRepeat:
        """Run a cell, again if the machine was not as fast after it as before."""
        runs: list[LiveRepeat] = []
        while len(runs) < ATTEMPTS and not (runs and runs[-1].steady):
            users, stack = await live.run(cell.policy, cell.settle_s, cell.measure_s)
            after_ms = await live.probe_ms()
            runs.append(
                LiveRepeat(
                    metrics=metrics_of(users.counted(), Window(users.start, users.end)),
                    probes_ms=(before_ms, after_ms),
                    stack={name: value for name, value in stack.items() if isinstance(value, float | int)},
                    wrong=self._wrong(users),
                )
            )
            before_ms = after_ms
        return min(runs, key=lambda run: abs(run.drift))

    def _wrong(self, users: Users) -> tuple[str, ...]:
        return tuple(users.wrong(self.texts.answers)) if self.texts.answers else ()
