"""The policy race: every policy runs once per repeat, on the same services."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

import aiohttp

from cli.admin import Admin
from cli.baseline import Baseline
from cli.command.errors import CommandError
from cli.race.recording import Recording
from cli.race.users import use
from cli.stack.stack import HOST, LocalStack
from loadgen.measuring.arms import measure_arms_async
from shared.scenario.scenario import Entrant, Scenario

ONE: Final = "generate, one user"
BATCH: Final = "generate, padded batch"
EMPTY_S: Final = 30.0  # for the sessions of a run to be gone
ONE_TOKENS: Final = 64  # of transformers, for one user
BATCH_TOKENS: Final = 48
WATCH_S: Final = 1.0


@dataclass(slots=True)
class RaceRun:
    """One repeat of one entrant. Rates in tokens a second; predicted by the plans in force meanwhile, 0 = none."""

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
    """What it takes to run an entrant."""

    stack: LocalStack
    admin: Admin
    rival: Baseline
    model: str
    scenario: Scenario
    recording: Recording
    devices: tuple[str, ...]
    settle_s: float
    measure_s: float

    async def run(self, entrant: Entrant) -> RaceRun:
        """One policy, with all users. Raises CommandError."""
        await self.admin.set_policy(entrant.policy, entrant.k)
        before = await self._scheduler()
        beats: list[dict[str, Any]] = []
        promises: list[tuple[float, dict[str, float]]] = []
        watching = asyncio.create_task(self._watch(beats, promises))
        try:
            users = await use(
                self.stack.url,
                self.model,
                self.scenario,
                self.devices,
                self.recording.prompts,
                self.settle_s,
                self.measure_s,
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        after = await self._scheduler()
        await self._empty()
        promises.append((users.end, after))

        def promised(name: str) -> float:
            return fmean(told.get(name, 0.0) for at, told in promises if users.start <= at <= users.end)

        elapsed = users.end - users.start
        rates = {user: tokens / elapsed for user, tokens in users.tokens().items()}
        lengths = [len(text) - self.answer for text in self.recording.texts]
        texts = [text[skip:] for text, skip in zip(self.recording.texts, lengths, strict=True)]
        return RaceRun(
            tokens_per_s=sum(rates.values()),
            by_user=rates,
            predicted=promised('tokens_per_second{what="predicted"}'),
            predicted_cycle_ms=promised('cycle_ms{what="predicted"}'),
            predicted_busy=promised("plan_busy_share"),
            cycle_ms=after.get('cycle_ms{what="realised"}', 0.0),
            busy=_busy_share(beats, self.measure_s),
            wrong=users.wrong(texts),
            metrics={
                name: value - before.get(name, 0.0) for name, value in after.items() if "_total" in name
            },
        )

    async def rivals(self, users: int) -> RaceRun:
        """transformers on so many prompts as one padded batch."""
        prompts = list(self.recording.prompts[:users])
        tokens = ONE_TOKENS if users == 1 else BATCH_TOKENS
        done = await self.rival.ask({"prompts": prompts, "tokens": tokens, "raw": True})
        return RaceRun(tokens_per_s=users * tokens / done.seconds)

    @property
    def answer(self) -> int:
        """Tokens of an answer."""
        return self.scenario.workload.answer

    async def _watch(
        self, beats: list[dict[str, Any]], promises: list[tuple[float, dict[str, float]]]
    ) -> None:
        """The verifier's heartbeats, as they come, and what the scheduler's metrics say and when."""
        while True:
            promises.append((time.perf_counter(), await self._scheduler()))
            status = await self.admin.status()
            beats += [
                beat for beat in status["verifiers"] if not beats or beat["stamp_us"] != beats[-1]["stamp_us"]
            ]
            await asyncio.sleep(WATCH_S)

    async def _scheduler(self) -> dict[str, float]:
        """The scheduler's metrics by name and labels, without its prefix and the verifier's name."""
        url = f"http://{HOST}:{self.stack.options.ports.health + 1}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return read_metrics(await response.text(), "outrider_scheduler_")

    async def _empty(self) -> None:
        """Until no session is left."""
        try:
            async with asyncio.timeout(EMPTY_S):
                while (await self.admin.status())["sessions"]:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise CommandError(f"sessions were left {EMPTY_S:.0f} s after their users had gone") from None


def read_metrics(text: str, prefix: str) -> dict[str, float]:
    """Prometheus' text format; labels but the verifier's stay in the name."""
    found = {}
    for line in text.splitlines():
        if line.startswith(prefix):
            name, _, value = line.removeprefix(prefix).rpartition(" ")
            found[re.sub(r'\{verifier="[^"]*",?', "{", name).replace(",}", "}").replace("{}", "")] = float(
                value
            )
    return found


def _busy_share(beats: Sequence[dict[str, Any]], measure_s: float) -> float:
    """Of the verifier, over the last measure_s that it told of."""
    if len(beats) < 2:
        return 0.0
    first = next(beat for beat in beats if beats[-1]["stamp_us"] - beat["stamp_us"] <= 1e6 * measure_s)
    if first is beats[-1]:
        first = beats[0]
    return float((beats[-1]["busy_us"] - first["busy_us"]) / (beats[-1]["stamp_us"] - first["stamp_us"]))


async def race(
    course: Race, repeats: int, rivals: Sequence[int], told: Callable[[str, RaceRun], None]
) -> dict[str, list[RaceRun]]:
    """All repeats; the order turns with each. told is called after every run.

    rivals: for how many users transformers generates as well, by their numbers.

    Before them the last policy runs once without being counted: what has to be learnt of devices and links would
    else be paid for by whoever drafts first.
    """
    entrants: list[Entrant | int] = [*course.scenario.policies, *rivals]

    async def turn(entrant: Entrant | int) -> RaceRun:
        run = await (course.rivals(entrant) if isinstance(entrant, int) else course.run(entrant))
        told(_name(entrant), run)
        course.stack.raise_if_failed()
        return run

    await course.run(course.scenario.policies[-1])
    runs = await measure_arms_async(entrants, repeats, turn)
    return {_name(entrant): mine for entrant, mine in runs.items()}


def _name(entrant: Entrant | int) -> str:
    if isinstance(entrant, int):
        return ONE if entrant == 1 else BATCH
    return str(entrant)
