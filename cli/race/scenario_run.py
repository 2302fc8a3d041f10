"""Runs a scenario: real services, emulated devices that replay the target's texts, and transformers as the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.admin import Admin
from cli.race.attention import fastest_baseline
from cli.race.race import Race, RaceRun
from cli.race.recording import TEXTS, prompts_of, record
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.measuring.progress import Steps
from shared.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True)
class ScenarioOptions:
    """What to run.

    target: folder of the model called `name`. file: the scenario's, which the devices read. verify_ms: the unit
    "verify". baselines: numbers of users for which transformers generates. settle_s, measure_s: 0 = the scenario's.
    min_prompts: different prompts, at least one per user. env: settings of every service.
    """

    target: Path
    name: str
    dtype: str
    scenario: Scenario
    file: Path
    verify_ms: float
    repeats: int
    baselines: Sequence[int]
    state_dir: Path
    settle_s: float = 0.0
    measure_s: float = 0.0
    min_prompts: int = TEXTS
    env: Mapping[str, str] = field(default_factory=dict)


async def run_scenario(options: ScenarioOptions, steps: Steps) -> dict[str, list[RaceRun]]:
    """Runs by policy and baseline, one per repeat. Raises CommandError."""
    scenario, work = options.scenario, options.scenario.workload
    devices = tuple(device.name for device in scenario.fleet(options.verify_ms))
    prompts = prompts_of(max(len(devices), options.min_prompts), work.prompt)
    step = steps.step("transformers on the same target", 2)
    async with fastest_baseline(options.target, options.dtype, prompts[: len(devices)]) as baseline:
        step.advance()
        recording = await record(
            baseline, options.target, options.dtype, prompts, work.answer, options.state_dir
        )
        step.advance()
        async with (
            LocalStack(stack_options(options, recording.file)) as stack,
            Admin(stack.url) as admin,
        ):
            settle_s = options.settle_s or scenario.settle.at(0)
            measure_s = options.measure_s or scenario.measure.at(0)
            race = Race(
                stack, admin, baseline, options.name, scenario, recording, devices, settle_s, measure_s
            )
            arms = len(scenario.policies) + len(options.baselines)
            step = steps.step(f"{len(devices)} emulated devices", options.repeats * arms)
            return await race.run_all(
                options.repeats,
                options.baselines,
                lambda arm, run: step.advance(f"{arm} {run.tokens_per_s:.1f} tok/s"),
            )


def stack_options(options: ScenarioOptions, recordings: Path) -> StackOptions:
    """The stack, with the emulated devices (services/draft_worker/fleet.py) as its only draft workers."""
    return StackOptions(
        options.target,
        None,
        options.name,
        draft_workers=0,
        ports=Ports.free(),
        state_dir=options.state_dir / "stack",
        env={"OUTRIDER_DTYPE": options.dtype, **options.env},
        devices=(
            "--scenario",
            str(options.file.resolve()),
            "--recordings",
            str(recordings.resolve()),
            "--verify-ms",
            f"{options.verify_ms:.4f}",
        ),
    )
