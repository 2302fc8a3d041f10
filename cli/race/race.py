"""The policy race: every policy and baseline runs once per repeat, on the same services."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any, Final

import aiohttp

from cli.admin import Admin
from cli.baseline import Baseline
from cli.command.errors import CommandError
from cli.race.recording import Recording
from cli.stack.stack import HOST, LocalStack
from loadgen.client.streaming import Client
from loadgen.measuring.arms import measure_arms_async
from loadgen.run.scenario_users import Users, UsersError, use
from shared.planning.windows import NO_WINDOW
from shared.scenario.scenario import PolicyConfig, Scenario

ONE_USER: Final = "generate, one user"
PADDED_BATCH: Final = "generate, padded batch"
DRAIN_S: Final = 30.0  # limit for the sessions of a run to end
ONE_USER_TOKENS: Final = 64  # that transformers generates
PADDED_BATCH_TOKENS: Final = 48  # that transformers generates for each user
POLL_S: Final = 1.0


@dataclass(slots=True)
class RaceRun:
    """One repeat of one arm.

    tokens_per_s, predicted: tokens/s of all users. by_user: tokens/s by user, {} for transformers. predicted*: means of
    the plans in force during the run, 0 = no plan. busy: the verifier's busy share. wrong: texts that differ from the
    target's. metrics: what the scheduler counted during the run.
    """

    tokens_per_s: float
    by_user: dict[int, float] = field(default_factory=dict)
    predicted: float = 0.0
    predicted_cycle_ms: float = 0.0
    predicted_busy: float = 0.0
    cycle_ms: float = 0.0
    busy: float = 0.0
    wrong: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Race:
    """The services and the workload. settle_s: cut at the start of each run; measure_s: counted after it."""

    stack: LocalStack
    admin: Admin
    baseline: Baseline
    model: str
    scenario: Scenario
    recording: Recording
    devices: tuple[str, ...]
    settle_s: float
    measure_s: float

    async def run_all(
        self, repeats: int, baselines: Sequence[int], on_run: Callable[[str, RaceRun], None]
    ) -> dict[str, list[RaceRun]]:
        """Run every policy of the scenario and every baseline once per repeat; runs by the arm's name.

        baselines: numbers of users for which transformers generates. on_run: called after each run. Before the first
        repeat the last policy runs once uncounted: otherwise the policy that drafts first would pay for what has to be
        learnt about devices and links.
        """
        arms: dict[str, Callable[[], Awaitable[RaceRun]]] = {
            str(policy): partial(self.run_policy, policy) for policy in self.scenario.policies
        }
        arms |= {
            ONE_USER if users == 1 else PADDED_BATCH: partial(self.run_baseline, users) for users in baselines
        }

        async def measure(arm: str) -> RaceRun:
            run = await arms[arm]()
            on_run(arm, run)
            self.stack.raise_if_failed()
            return run

        await self.run_policy(self.scenario.policies[-1])
        return await measure_arms_async(list(arms), repeats, measure)

    async def run_policy(self, policy: PolicyConfig) -> RaceRun:
        """Serve all users with one policy. Raises CommandError."""
        await self.admin.set_policy(
            policy.policy,
            policy.k,
            window=policy.window or NO_WINDOW,
            bandwidth=policy.bandwidth,
        )
        before = await self._scheduler_metrics()
        beats: list[dict[str, Any]] = []
        samples: list[tuple[float, dict[str, float]]] = []
        polling = asyncio.create_task(self._poll(beats, samples))
        try:
            users = await self._use()
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        after = await self._scheduler_metrics()
        await wait_until_drained(self.admin)
        samples.append((users.end, after))

        def mean(name: str) -> float:
            return fmean(metrics.get(name, 0.0) for at, metrics in samples if users.start <= at <= users.end)

        elapsed = users.end - users.start
        rates = {user: tokens / elapsed for user, tokens in users.tokens().items()}
        lengths = [len(text) - self.answer for text in self.recording.texts]
        texts = [text[skip:] for text, skip in zip(self.recording.texts, lengths, strict=True)]
        return RaceRun(
            tokens_per_s=sum(rates.values()),
            by_user=rates,
            predicted=mean('tokens_per_second{what="predicted"}'),
            predicted_cycle_ms=mean('cycle_ms{what="predicted"}'),
            predicted_busy=mean("plan_busy_share"),
            cycle_ms=after.get('cycle_ms{what="realised"}', 0.0),
            busy=_busy_share(beats, self.measure_s),
            wrong=users.wrong(texts),
            metrics={
                name: value - before.get(name, 0.0) for name, value in after.items() if "_total" in name
            },
        )

    async def _use(self) -> Users:
        what = (self.model, self.scenario, self.devices, self.recording.prompts)
        try:
            async with Client(self.stack.url) as client:
                return await use(client, *what, self.settle_s, self.measure_s)
        except UsersError as error:
            raise CommandError(str(error)) from None

    async def run_baseline(self, users: int) -> RaceRun:
        """Generate with transformers for this number of users as one padded batch."""
        prompts = list(self.recording.prompts[:users])
        tokens = ONE_USER_TOKENS if users == 1 else PADDED_BATCH_TOKENS
        done = await self.baseline.ask({"prompts": prompts, "tokens": tokens, "raw": True})
        return RaceRun(tokens_per_s=users * tokens / done.seconds)

    @property
    def answer(self) -> int:
        """Tokens of an answer."""
        return self.scenario.workload.answer

    async def _poll(self, beats: list[dict[str, Any]], samples: list[tuple[float, dict[str, float]]]) -> None:
        """Collect the verifier's heartbeats, and the scheduler's metrics with their time (perf_counter)."""
        while True:
            samples.append((time.perf_counter(), await self._scheduler_metrics()))
            status = await self.admin.status()
            beats += [
                beat for beat in status["verifiers"] if not beats or beat["stamp_us"] != beats[-1]["stamp_us"]
            ]
            await asyncio.sleep(POLL_S)

    async def _scheduler_metrics(self) -> dict[str, float]:
        """The scheduler's metrics by name and labels, without its prefix and the verifier's name."""
        url = f"http://{HOST}:{self.stack.options.ports.health + 1}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return read_metrics(await response.text(), "outrider_scheduler_")


async def wait_until_drained(admin: Admin) -> None:
    """Wait until no session is left. Raises CommandError."""
    try:
        async with asyncio.timeout(DRAIN_S):
            while (await admin.status())["sessions"]:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CommandError(f"sessions remain {DRAIN_S:.0f} s after their users have left") from None


def read_metrics(text: str, prefix: str) -> dict[str, float]:
    """Parse Prometheus' text format. The name keeps its labels, except the verifier's, and loses the prefix."""
    metrics = {}
    for line in text.splitlines():
        if line.startswith(prefix):
            name, _, value = line.removeprefix(prefix).rpartition(" ")
            metrics[re.sub(r'\{verifier="[^"]*",?', "{", name).replace(",}", "}").replace("{}", "")] = float(
                value
            )
    return metrics


def _busy_share(beats: Sequence[dict[str, Any]], measure_s: float) -> float:
    """The verifier's busy share over the last measure_s of its heartbeats."""
    if len(beats) < 2:
        return 0.0
    first = next(beat for beat in beats if beats[-1]["stamp_us"] - beat["stamp_us"] <= 1e6 * measure_s)
    if first is beats[-1]:
        first = beats[0]
    return float((beats[-1]["busy_us"] - first["busy_us"]) / (beats[-1]["stamp_us"] - first["stamp_us"]))
