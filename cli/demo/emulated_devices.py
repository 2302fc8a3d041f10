"""The demo's second half: every user has an emulated device elsewhere. It is a policy race (cli/race).

A device's drafts are replayed: they take as long as a modelled device would, and each token is the target's own with a
set probability. Users send their next request as soon as they have an answer, and throughput is measured while all are
served. transformers generates for the same number of users as one padded batch, with the faster of its attentions. The
scheduler starts without measured costs, as in a fresh installation.
"""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Final

from cli.demo.demo_run import DemoRun
from cli.race.race import PADDED_BATCH, RaceRun
from cli.race.scenario_run import ScenarioOptions, run_scenario
from loadgen.measuring.progress import Steps
from shared.scenario.scenario import Scenario

GENERATE: Final = "generate"
VERIFY_MS: Final = 1.0  # unused: all times of these devices are in milliseconds


def demo_scenario(users: int) -> Scenario:
    """One device per user, with the α of the demo's own draft, and up to half as fast as a core of this machine."""
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
    """Run every policy and transformers once per repeat; runs by name, transformers first. Raises CommandError."""
    users = sum(kind.count for kind in scenario.devices)
    options = ScenarioOptions(
        target,
        name,
        dtype,
        scenario,
        write_scenario(scenario, state_dir),
        VERIFY_MS,
        repeats,
        (users,),
        state_dir,
        min_prompts=users,
    )
    runs = {
        arm: [_demo_run(run) for run in repeats]
        for arm, repeats in (await run_scenario(options, steps)).items()
    }
    return {GENERATE: runs.pop(PADDED_BATCH), **runs}


def write_scenario(scenario: Scenario, state_dir: Path) -> Path:
    """Write the file that the devices read."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = state_dir / "devices.yaml"
    file.write_text(scenario.model_dump_json(exclude_none=True))  # JSON is valid YAML
    return file


def _demo_run(run: RaceRun) -> DemoRun:
    """As a row of the demo's table. The time per token is the median user's."""
    if not run.by_user:
        return DemoRun(run.tokens_per_s)
    rates = sorted(run.by_user.values())
    alpha, tau = acceptance(run.metrics)
    tpot_ms = 1e3 / rates[len(rates) // 2] if rates[len(rates) // 2] else nan
    return DemoRun(run.tokens_per_s, alpha, tau, nan, tpot_ms, same=not run.wrong)


def acceptance(metrics: Mapping[str, float]) -> tuple[float, float]:
    """α and τ of a run from the scheduler's counters; NaN where nothing was drafted."""
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
