"""The order of a race's runs."""

from dataclasses import dataclass, field
from typing import Any, cast

from cli.race.race import ONE_USER, PADDED_BATCH, Race, RaceRun
from shared.scenario.scenario import PolicyConfig


@dataclass(frozen=True)
class Recorded(Race):
    """A race whose runs are only recorded."""

    ran: list[str] = field(default_factory=list)

    async def run_policy(self, policy: PolicyConfig) -> RaceRun:
        self.ran.append(str(policy))
        return RaceRun(float(len(self.ran)))

    async def run_baseline(self, users: int) -> RaceRun:
        self.ran.append(f"generate {users}")
        return RaceRun(float(len(self.ran)))


class Stack:
    """A stack that does not fail."""

    checks = 0

    def raise_if_failed(self) -> None:
        self.checks += 1


class Policies:
    """A scenario's policies."""

    policies = (PolicyConfig(policy="fixed-k", k=2), PolicyConfig(policy="outrider"))


async def test_the_last_policy_runs_uncounted_before_interleaved_repeats() -> None:
    stack, nothing = Stack(), cast(Any, None)
    race = Recorded(
        cast(Any, stack), nothing, nothing, "m", cast(Any, Policies()), nothing, ("a", "b"), 1.0, 1.0
    )
    seen: list[str] = []
    runs = await race.run_all(2, (1, 2), lambda arm, _: seen.append(arm))
    first = ["fixed-k k=2", "outrider", "generate 1", "generate 2"]
    assert race.ran == ["outrider", *first, *first[::-1]]
    assert {arm: [run.tokens_per_s for run in repeats] for arm, repeats in runs.items()} == {
        "fixed-k k=2": [2.0, 9.0],
        "outrider": [3.0, 8.0],
        ONE_USER: [4.0, 7.0],
        PADDED_BATCH: [5.0, 6.0],
    }
    assert (len(seen), stack.checks) == (8, 8)
