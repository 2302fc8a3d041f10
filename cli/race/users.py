"""The users of a scenario. Each sends its next request when the last answer ends; some leave and return."""

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
FIRST_S: Final = 60.0  # by then everybody has had something


@dataclass(slots=True)
class Users:
    """Their records. start, end: of what is counted, on the client's clock."""

    records: dict[int, list[Record]] = field(default_factory=dict)  # by user
    asked: dict[int, int] = field(default_factory=dict)  # id(record) -> prompt
    start: float = 0.0
    end: float = 0.0

    def tokens(self) -> dict[int, int]:
        """Of each user, within what is counted."""
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
        """Answers that are not the beginning of what the target says. texts: continuations, by prompt."""
        found = []
        for user, records in self.records.items():
            for record in records:
                said, expected = record.tokens, texts[self.asked[id(record)]]
                if list(expected[: len(said)]) != said:
                    at = next(i for i, (a, b) in enumerate(zip(said, expected, strict=False)) if a != b)
                    found.append(f"user {user}, {record.request.id}: token {at} of {len(said)}")
        return found


async def use(
    url: str,
    model: str,
    scenario: Scenario,
    devices: Sequence[str],
    prompts: Sequence[str],
    settle_s: float,
    measure_s: float,
) -> Users:
    """All users for so long. Raises CommandError when a request fails."""
    users = Users()
    now: dict[int, Record] = {}
    by_user = {f"u{n}": n for n in range(len(devices))}

    def seen(record: Record) -> None:
        user = by_user[record.request.id.split("-")[0]]
        if now.get(user) is not record:
            now[user] = record
            users.records.setdefault(user, []).append(record)
            users.asked[id(record)] = _prompt(user, int(record.request.id.split("-")[1]), len(prompts))

    async with Client(url, on_event=seen) as client:
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
    """One user for ever."""
    rng, work, turn = np.random.default_rng([scenario.seed, user]), scenario.workload, 0
    while True:
        gone_at = time.perf_counter() + _drawn(rng, work.stay) if work.stay else float("inf")
        try:
            async with asyncio.timeout(None if work.stay is None else gone_at - time.perf_counter()):
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
