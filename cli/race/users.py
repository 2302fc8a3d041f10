"""The users of a scenario. Each sends its next request when it has its answer; some leave and return."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from cli.command.errors import CommandError
from loadgen.client.streaming import Client
from loadgen.request import ChatRequest, Record
from shared.scenario.quantity import Quantity
from shared.scenario.scenario import Scenario

STRIDE: Final = 5  # from one prompt of a user to the next
FIRST_S: Final = 60.0  # limit for every user's first token


@dataclass(slots=True)
class Users:
    """Records by user.

    start, end: of the counted interval (perf_counter). prompt_of: index of a record's prompt, by id(record).
    """

    records: dict[int, list[Record]] = field(default_factory=dict)
    prompt_of: dict[int, int] = field(default_factory=dict)
    start: float = 0.0
    end: float = 0.0

    def tokens(self) -> dict[int, int]:
        """Tokens of each user in the counted interval."""
        return {
            user: sum(
                len(chunk.tokens)
                for record in records
                for chunk in record.chunks
                if self.start <= chunk.at < self.end
            )
            for user, records in self.records.items()
        }

    def wrong(self, texts: Sequence[Sequence[int]]) -> list[str]:
        """Answers that differ from the target's text, each as a line. texts: continuations, by prompt."""
        differences = []
        for user, records in self.records.items():
            for record in records:
                tokens, expected = record.tokens, texts[self.prompt_of[id(record)]]
                if list(expected[: len(tokens)]) != tokens:
                    at = next(i for i, (a, b) in enumerate(zip(tokens, expected, strict=False)) if a != b)
                    differences.append(f"user {user}, {record.request.id}: token {at} of {len(tokens)}")
        return differences


async def use(
    url: str,
    model: str,
    scenario: Scenario,
    devices: Sequence[str],
    prompts: Sequence[str],
    settle_s: float,
    measure_s: float,
) -> Users:
    """Run all users for settle_s, then count for measure_s. Raises CommandError when a request fails."""
    users = Users()
    now: dict[int, Record] = {}
    by_user = {f"u{n}": n for n in range(len(devices))}

    def on_event(record: Record) -> None:
        user = by_user[record.request.id.split("-")[0]]
        if now.get(user) is not record:
            now[user] = record
            users.records.setdefault(user, []).append(record)
            users.prompt_of[id(record)] = _prompt(user, int(record.request.id.split("-")[1]), len(prompts))

    async with Client(url, on_event=on_event) as client:
        tasks = [
            asyncio.create_task(_user(client, n, device, model, scenario, prompts))
            for n, device in enumerate(devices)
        ]
        try:
            async with asyncio.timeout(FIRST_S):
                while len(users.records) < len(devices):
                    _raise_if_failed(tasks)
                    await asyncio.sleep(0.02)
            await asyncio.sleep(settle_s)
            users.start = time.perf_counter()
            await asyncio.sleep(measure_s)
            users.end = time.perf_counter()
            _raise_if_failed(tasks)
        except TimeoutError:
            raise CommandError(f"only {len(users.records)} of {len(devices)} users were served") from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return users


async def _user(
    client: Client, user: int, device: str, model: str, scenario: Scenario, prompts: Sequence[str]
) -> None:
    """One user, until cancelled."""
    rng, work, turn = np.random.default_rng([scenario.seed, user]), scenario.workload, 0
    while True:
        leaves_at = time.perf_counter() + _drawn(rng, work.stay) if work.stay else float("inf")
        try:
            async with asyncio.timeout(None if work.stay is None else leaves_at - time.perf_counter()):
                while True:
                    request = ChatRequest(
                        f"u{user}-{turn}",
                        model,
                        prompts[_prompt(user, turn, len(prompts))],
                        work.answer,
                        device=device,
                        raw=True,
                        ignore_eos=True,
                    )
                    turn += 1
                    record = await client.chat(request)
                    if record.error:
                        raise CommandError(f"{request.id}: {record.error}")
        except TimeoutError:
            if work.away:
                await asyncio.sleep(_drawn(rng, work.away))


def _prompt(user: int, turn: int, count: int) -> int:
    return (user + STRIDE * turn) % count


def _drawn(rng: np.random.Generator, seconds: Quantity) -> float:
    return seconds.at(float(rng.random()))


def _raise_if_failed(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise error
