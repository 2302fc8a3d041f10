"""`outrider validate`: scenarios live and simulated, and how far the simulation is off."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import structlog
from rich.console import Console

from cli.command.errors import CommandError
from cli.models.resolve import resolve
from cli.validate import picture, report
from cli.validate.agreement import Compared
from cli.validate.cell import Cell, LiveRepeat
from cli.validate.core_model import MODELLED, Core, Texts, check_policies
from cli.validate.drafters import check_links
from cli.validate.live_runs import LiveRuns
from cli.validate.options import ValidateOptions
from cli.validate.profile_check import differences
from cli.validate.run_metrics import RunMetrics, mean_of
from cli.validate.simulated import simulate_cell
from cli.validate.tuning import Tuned, fit
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from shared.planning.profile import Profile, ServingCosts, read_profile, write_profile
from shared.scenario.scenario import read_scenario
from simulator.scenario import read_simulated

TUNING_REPEATS: Final = 1
SEEDS: Final = 4  # of each simulated cell


@dataclass(frozen=True, slots=True)
class _Planned:
    """A scenario's cells, and the texts of its users."""

    cells: tuple[Cell, ...]
    live: LiveRuns

    @property
    def texts(self) -> Texts:
        return self.live.texts


def run_validate(options: ValidateOptions) -> None:
    """Run live what is not kept, simulate all, and report. Raises one of cli_errors.expected() and ScenarioError."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console(highlight=False, soft_wrap=True)
    core, remarks = _core(options)
    for remark in remarks:
        console.print(remark)
    _Validation(options, core, console, remarks).run()


@dataclass(frozen=True, slots=True)
class _Validation:
    options: ValidateOptions
    core: Core
    console: Console
    remarks: Sequence[str]

    def run(self) -> None:
        """All parts in order. Simulations have loops of their own, so they run outside of one."""
        tuning, planned = asyncio.run(self._live_part())
        with Steps(self.console) as steps:
            serving = self._serving(tuning, steps)
            compared = self._simulate(planned, serving, steps)
        self._report(planned, compared, serving)

    async def _live_part(self) -> tuple[list[_Planned], list[_Planned]]:
        """The cells of the tuning scenario and of the others, whose live runs are kept then."""
        async with Steps(self.console) as steps:
            tuning = [await self._planned(path) for path in _given(self.options.tuning)]
            planned = [await self._planned(path) for path in self.options.scenarios]
            await self._run_live(tuning, planned, steps)
        return tuning, planned

    async def _planned(self, path: Path) -> _Planned:
        read_scenario(path)  # refuses what a live run has not
        scenario = read_simulated(path)
        check_policies(scenario, path)
        if self.options.drafters:
            check_links(scenario, path)
        times_s = self.options.times_s(scenario)
        cells = tuple(
            Cell(path.stem, scenario, policy, *times_s, self.core.about) for policy in scenario.policies
        )
        texts = await self.core.texts(scenario)
        return _Planned(cells, LiveRuns(cells, path, self.core, texts, self.options.out))

    async def _run_live(self, tuning: Sequence[_Planned], planned: Sequence[_Planned], steps: Steps) -> None:
        """Run what is missing. Raises CommandError when something is and may not run."""
        repeats = {id(one): TUNING_REPEATS for one in tuning} | {
            id(one): self.options.repeats for one in planned
        }
        every = [*tuning, *planned]
        missing = {id(one): one.live.missing(repeats[id(one)]) for one in every}
        if not self.options.live:
            if lacking := [one.cells[0].scenario for one in every if missing[id(one)]]:
                raise CommandError(
                    f"--no-live: {', '.join(lacking)}: not all live runs are kept in {self.options.out} for this "
                    "scenario, model and machine; run without --no-live"
                )
            return
        for one in every:
            if missing[id(one)]:
                step = steps.step(f"live: {one.cells[0].scenario}", missing[id(one)])
                await one.live.run(
                    repeats[id(one)],
                    lambda cell, run, step=step: step.advance(  # type: ignore[misc]
                        f"{cell.policy} {run.metrics.tokens_per_s:.1f} tok/s"
                    ),
                )

    def _serving(self, tuning: Sequence[_Planned], steps: Steps) -> ServingCosts:
        """Fitted to the tuning runs and written with the profile, or the profile's own."""
        if self.core.serving is not None and not tuning:
            return self.core.serving
        texts = {cell.name: one.texts for one in tuning for cell in one.cells}
        runs = [Tuned(cell, self._kept(cell)[0]) for one in tuning for cell in one.cells]
        step = steps.step("fitting the serving costs", 1)

        def simulate(cell: Cell, costs: ServingCosts) -> tuple[RunMetrics, dict[str, Any]]:
            return simulate_cell(cell, self.core, texts[cell.name], costs)

        costs = fit(runs, simulate)
        step.advance()
        if self.core.profile is not None:
            profile = self.core.profile.model_copy(update={"serving": costs})
            write_profile(self.options.out / "profile.json", profile)
        return costs

    def _simulate(self, planned: Sequence[_Planned], serving: ServingCosts, steps: Steps) -> list[Compared]:
        step = steps.step("simulated", sum(len(one.cells) for one in planned))
        compared = []
        for one in planned:
            for cell in one.cells:
                kept = self._kept(cell)
                costs = serving.at(fmean(run.probe_ms for run in kept))
                simulated, _ = simulate_cell(cell, self.core, one.texts, costs, SEEDS)
                runs = tuple(run.metrics for run in kept)
                compared.append(Compared(cell.scenario, str(cell.policy), mean_of(runs), simulated, runs))
                step.advance(cell.name)
        return compared

    def _kept(self, cell: Cell) -> list[LiveRepeat]:
        return cell.kept(self.options.out)

    def _report(
        self, planned: Sequence[_Planned], compared: Sequence[Compared], serving: ServingCosts
    ) -> None:
        """Print the tables, write JSON and picture. Raises CommandError for texts that are not the target's."""
        live = {cell.name: self._kept(cell) for one in planned for cell in one.cells}
        body = report.body(compared, live, serving)
        report.show(self.console, compared, body)
        out = self.options.out / "validation.json"
        config = {
            "model": self.core.name,
            "dtype": self.core.dtype,
            "modelled": self.options.modelled,
            "drafters": self.options.drafters,
            "repeats": self.options.repeats,
            "remarks": list(self.remarks),
            "profile_date": self.core.profile.date if self.core.profile else None,
        }
        write_measurement(out, "validation", config, body)
        picture.draw(out.with_suffix(".png"), compared)
        self.console.print(f"written to {out} and {out.with_suffix('.png')}")
        if wrong := [f"{name}: {text}" for name, runs in live.items() for run in runs for text in run.wrong]:
            raise CommandError(f"{len(wrong)} live texts are not the target's; the first: {wrong[0]}")


def _given(path: Path | None) -> list[Path]:
    return [path] if path else []


def _core(options: ValidateOptions) -> tuple[Core, list[str]]:
    """The core, and remarks on it. Raises CommandError, ProfileError."""
    state = options.state_dir / "validate"
    if options.modelled:
        if options.tuning is None:
            raise CommandError("--tuned, --drafters: a modelled core has no profile; leave them out")
        return Core(None, MODELLED, "", None, None, state), ["live with a modelled core: nothing is computed"]
    folder, draft, name = resolve(options.target, "")
    profile: Profile = read_profile(options.profile)
    try:
        _ = profile.pass_table
    except ValueError as error:
        raise CommandError(f"{options.profile}: {error}; `outrider calibrate` measures them") from None
    if options.tuning is None and profile.serving is None:
        raise CommandError(
            f"--profile: {options.profile} has no serving costs; give the profile.json that `outrider validate` writes "
            "into --out without --tuned"
        )
    remarks = []
    if others := differences(profile, name, options.dtype):
        text = f"{options.profile} was measured elsewhere: {'; '.join(others)}"
        if not options.any_profile:
            raise CommandError(f"{text}; run `outrider calibrate`, or take it with --any-profile")
        remarks.append(text)
    drafters = draft if options.drafters else None
    return Core(folder, name, options.dtype, profile, options.profile, state, drafters), remarks
