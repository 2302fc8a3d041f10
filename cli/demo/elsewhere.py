"""The second half: every user has a device of its own elsewhere, emulated. It is a policy race (cli/race).

A device's drafter is replayed: it takes as long as a modelled device would, and says the target's own next token with
a set probability. Users ask again as soon as they have an answer, and the rate is taken while all are served; beside
Outrider, transformers generates for as many users as one padded batch, with the faster of its attentions.
"""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Final

from cli.admin import Admin
from cli.demo.entrants import DemoRun
from cli.race import race as bench
from cli.race.attention import fastest_baseline
from cli.race.emulated import emulated
from cli.race.recording import Recording, prompts_of, record
from cli.stack.stack import LocalStack, Options
from loadgen.measuring.progress import Steps
from shared.scenario.scenario import Scenario

GENERATE: Final = "generate"
VERIFY_MS: Final = 1.0  # the unit of devices without a time in milliseconds, and ours have one


def devices_elsewhere(users: int) -> Scenario:
    """A device for every user: right as often as the demo's own draft, and up to half as fast as a core here."""
    return Scenario.model_validate(
        {
            "about": "as many users, with a laptop each, on networks of all kinds",
            "seed": 5,
            "devices": [
                {"count": users, "alpha": "0.7..0.9", "draft": "8..16 ms", "link": {"delay": "2..10 ms"}}
            ],
            "workload": {"prompt": 40, "answer": 192},
            "policies": ["greedy-batch", "outrider"],
            "settle": "1.5 s",
            "measure": "5 s",
        }
    )


async def run(
    target: Path, name: str, dtype: str, scenario: Scenario, repeats: int, state_dir: Path, steps: Steps
) -> dict[str, list[DemoRun]]:
    """Every entrant once a repeat, by its name. Raises CommandError."""
    users, work = sum(kind.count for kind in scenario.devices), scenario.workload
    prompts = prompts_of(users, work.prompt)[:users]
    step = steps.step("transformers on the same target", 2)
    async with fastest_baseline(target, dtype, prompts) as rival:
        step.advance()
        recording = await record(rival, target, dtype, prompts, work.answer, state_dir)
        step.advance()
        step = steps.step("devices elsewhere", repeats * (len(scenario.policies) + 1))

        def told(entrant: str, run: bench.RaceRun) -> None:
            step.advance(f"{_short(entrant)} {run.tokens_per_s:.1f} tok/s")

        async with (
            LocalStack(options(target, name, dtype, scenario, recording, state_dir)) as stack,
            Admin(stack.url) as admin,
        ):
            devices = tuple(device.name for device in scenario.fleet(VERIFY_MS))
            settle_s, measure_s = scenario.settle.at(0), scenario.measure.at(0)
            course = bench.Race(stack, admin, rival, name, scenario, recording, devices, settle_s, measure_s)
            found = await bench.race(course, repeats, (users,), told)
    runs = {_short(entrant): [_run(mine) for mine in theirs] for entrant, theirs in found.items()}
    return {GENERATE: runs.pop(GENERATE), **runs}


def options(
    target: Path, name: str, dtype: str, scenario: Scenario, recording: Recording, state_dir: Path
) -> Options:
    """The stack. Writes the scenario, which its devices read. It plans as a fresh installation does: unmeasured."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = state_dir / "devices.yaml"
    file.write_text(scenario.model_dump_json(exclude_none=True))  # JSON is YAML, too
    env = {"OUTRIDER_DTYPE": dtype}
    return emulated(target, name, file, recording.file, state_dir / "stack", verify_ms=VERIFY_MS, env=env)


def _short(entrant: str) -> str:
    return GENERATE if entrant == bench.BATCH else entrant


def _run(run: bench.RaceRun) -> DemoRun:
    """As the demo's table has it. Time per token: of the median user."""
    if not run.by_user:
        return DemoRun(run.tokens_per_s)
    rates = sorted(run.by_user.values())
    alpha, tau = acceptance(run.metrics)
    tpot_ms = 1e3 / rates[len(rates) // 2] if rates[len(rates) // 2] else nan
    return DemoRun(run.tokens_per_s, alpha, tau, nan, tpot_ms, same=not run.wrong)


def acceptance(metrics: Mapping[str, float]) -> tuple[float, float]:
    """α and τ of what the scheduler counted during a run; nan where nothing was drafted."""
    accepted = metrics.get("accepted_tokens_total", 0.0)
    rejected = sum(
        count
        for name, count in metrics.items()
        if name.startswith("positions_total") and 'outcome="rejected"' in name
    )
    rounds = metrics.get('rounds_total{drafted="yes"}', 0.0)
    return (
        accepted / (accepted + rejected) if accepted + rejected else nan,
        (accepted + rounds) / rounds if rounds else nan,
    )
