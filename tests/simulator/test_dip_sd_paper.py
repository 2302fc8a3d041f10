"""DiP-SD's published ratios from the simulated services: policy `dip-sd` and both baselines on scenarios/dip-sd-paper.

The services are not told the server's law, nor the users' acceptance: the scheduler learns both while it serves, and
plans. A run's rate owes about 1 % to luck, the rounds' accepted tokens, so the ratios are those of three seeds.
"""

import pytest

from shared.planning import paper_setting
from shared.planning.problem import Split, cycle_ms
from shared.scenario.quantity import parse
from simulator.scenario import SimulatedScenario
from tests.simulator.runs import Simulated, run, shipped

MEASURED_S = 45.0
SEEDS = (1, 2, 3)


def paper(users: int, alpha: float) -> SimulatedScenario:
    """The scenario with another number of users and another acceptance."""
    scenario = shipped("dip-sd-paper")
    group = scenario.devices[0].model_copy(update={"count": users, "alpha": parse(alpha)})
    return scenario.model_copy(update={"devices": (group,)})


def rate(simulated: Simulated) -> float:
    """Tokens per second of all users."""
    return float(simulated.outcome.metrics["output_throughput"])


@pytest.mark.slow
def test_the_baselines_are_the_papers() -> None:
    scenario = paper(14, 0.78).model_copy(update={"measure": parse("20 s")})
    problem = paper_setting.equal_users(14)
    alone, batched = (rate(run(scenario, policy)) for policy in ("autoregressive", "greedy-batch"))
    assert alone == pytest.approx(paper_setting.autoregressive_tokens_per_s(problem), rel=0.006)
    assert batched == pytest.approx(paper_setting.greedy_batch_tokens_per_s(problem), rel=0.006)


def drafted(simulated: Simulated) -> int:
    """The draft length of (nearly) all rounds: the most that was ever accepted of one."""
    return max(chunk.accepted for record in simulated.records for chunk in record.chunks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "alpha", "batches", "over_autoregressive", "over_greedy_batch"),
    [(14, 0.78, 2, 17.8888, 1.3777), (6, 0.95, 3, 11.2484, 1.9311)],
)
def test_the_policys_ratios_are_the_papers(
    users: int, alpha: float, batches: int, over_autoregressive: float, over_greedy_batch: float
) -> None:
    scenario, problem = paper(users, alpha), paper_setting.equal_users(users, alpha)
    runs = [run(scenario.model_copy(update={"seed": seed}), "dip-sd") for seed in SEEDS]
    mean = sum(map(rate, runs)) / len(runs)
    greedy = paper_setting.greedy_batch_tokens_per_s(problem)
    assert mean / paper_setting.autoregressive_tokens_per_s(problem) == pytest.approx(
        over_autoregressive, rel=0.01
    )
    assert mean / greedy == pytest.approx(over_greedy_batch, rel=0.01)

    # Without luck: a cycle takes S of the plan in force, to a thousandth. A rare other plan may be in between.
    cycles = []
    for each in runs:
        rounds = sum(len(record.chunks) for record in each.records)
        equal = tuple(tuple(range(n, users, batches)) for n in range(batches))
        planned = cycle_ms(problem, Split(equal, (drafted(each),) * users))
        cycles.append(1e3 * MEASURED_S * users / rounds / planned)
    assert sorted(cycles)[1] == pytest.approx(1.0, abs=0.002)
