"""The users of a scenario. Each sends its next request after its answer, or after a pause; some leave and return."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from loadgen.client.chat_client import ChatClient
from loadgen.request import ChatRequest, Record
from loadgen.workload.schedule import SEEDS
from shared.scenario.quantity import Quantity
from shared.scenario.scenario import Scenario

THINK: Final = 1  # a user's stream of random numbers for pauses
STRIDE: Final = 5  # from one prompt of a user to the next
FAILED_PAUSE_S: Final = 0.5
FIRST_S: Final = 60.0  # limit for every user's first token


@dataclass(slots=True)
class Users:
    """Records by user.

    start, end: of the counted interval, on the client's clock. prompt_of: index of a record's prompt, by id(record).
    """

    records: dict[int, list[Record]] = field(default_factory=dict)
    prompt_of: dict[int, int] = field(default_factory=dict)
    start: float = 0.0
    end: float = 0.0

    def add(self, user: int, prompt: int, record: Record) -> None:
        """Add a request that is about to be sent."""
        self.records.setdefault(user, []).append(record)
        self.prompt_of[id(record)] = prompt

    def without_token(self, users: Iterable[int]) -> list[int]:
        """Those of these users that have not got a token."""
        return [user for user in users if not any(record.chunks for record in self.records.get(user, ()))]

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

    def counted(self) -> list[Record]:
        """What falls into the counted interval, as records of their own.

        A request under way at its start is due then, one under way at its end ends then. So the first token that
        such a record has is not its request's, see `first_tokens`.
        """
        every = (record for records in self.records.values() for record in records)
        return [clipped for record in every if (clipped := self._clipped(record)).chunks]

    def first_tokens(self) -> list[Record]:
        """What falls into the counted interval of requests that were due in it and got their first token."""
        return [record for record in self.counted() if record.scheduled > self.start]

    def _clipped(self, record: Record) -> Record:
        chunks = [chunk for chunk in record.chunks if self.start <= chunk.at < self.end]
        before = record.scheduled < self.start
        cut = record.fault == "stopped" or record.ended > self.end
        return replace(
            record,
            scheduled=self.start if before else record.scheduled,
            sent=self.start if before else record.sent,
            chunks=chunks,
            ended=min(record.ended, self.end),
            completion_tokens=sum(len(chunk.tokens) for chunk in chunks),
            error="" if cut else record.error,
            fault="" if cut else record.fault,
        )

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


class UsersError(RuntimeError):
    """A user's request failed, or users were not served at all; the text says which."""


async def use(
    client: ChatClient,
    model: str,
    scenario: Scenario,
    devices: Sequence[str],
    prompts: Sequence[str | tuple[int, ...]],
    settle_s: float,
    measure_s: float,
    failures: bool = False,
) -> Users:
    """Run all users for settle_s, then count for measure_s.

    failures: a user whose request fails sends the next one after a pause. Otherwise it raises UsersError.
    """
    users, waiting = Users(), list(range(len(devices)))
    tasks = [
        asyncio.create_task(_User(client, users, n, device, model, scenario, prompts, failures).run())
        for n, device in enumerate(devices)
    ]
    ended: list[
        asyncio.Task[None]
    ] = []  # by a failure: nobody looks at thousands of tasks fifty times a second
    for task in tasks:
        task.add_done_callback(ended.append)
    try:
        async with asyncio.timeout(FIRST_S):
            while waiting := users.without_token(waiting):
                _raise_if_failed(ended)
                await asyncio.sleep(0.02)
        await asyncio.sleep(settle_s)
        users.start = client.now()
        await asyncio.sleep(measure_s)
        users.end = client.now()
        _raise_if_failed(tasks)
    except TimeoutError:
        raise UsersError(f"only {len(devices) - len(waiting)} of {len(devices)} users were served") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return users


@dataclass(frozen=True, slots=True)
class _User:
    """One user of a device."""

    client: ChatClient
    users: Users
    number: int
    device: str
    model: str
    scenario: Scenario
    prompts: Sequence[str | tuple[int, ...]]
    failures: bool

    async def run(self) -> None:
        """Send requests, leave and return, until cancelled."""
        rng, work, turn = np.random.default_rng([self.scenario.seed, self.number]), self.scenario.workload, 0
        pauses = np.random.default_rng([self.scenario.seed, self.number, turn, THINK])
        while True:
            stay_s = _drawn(rng, work.stay) if work.stay else None
            try:
                async with asyncio.timeout(stay_s):
                    while True:
                        await self._request(turn)
                        turn += 1
                        if work.think:
                            await asyncio.sleep(_drawn(pauses, work.think))
            except TimeoutError:
                turn += 1
                if work.away:
                    await asyncio.sleep(_drawn(rng, work.away))

    async def _request(self, turn: int) -> None:
        number = prompt_of(self.number, turn, len(self.prompts))
        request = ChatRequest(
            f"u{self.number}-{turn}",
            self.model,
            self.prompts[number],
            self.scenario.workload.answer,
            seed=seed_of(self.scenario, self.number, turn),
            device=self.device,
            raw=True,
            ignore_eos=True,
        )
        now = self.client.now()
        record = Record(request, now, now)
        self.users.add(self.number, number, record)
        await self.client.complete(record)
        if record.error and not self.failures:
            raise UsersError(f"{request.id}: {record.error}")
        if record.error:
            await asyncio.sleep(FAILED_PAUSE_S)


def prompt_of(user: int, turn: int, prompts: int) -> int:
    """Index of the prompt of a user's request."""
    return (user + STRIDE * turn) % prompts


def seed_of(scenario: Scenario, user: int, turn: int) -> int:
    """Seed of a user's request."""
    return int(np.random.default_rng([scenario.seed, user, turn]).integers(SEEDS))


def _drawn(rng: np.random.Generator, seconds: Quantity) -> float:
    return seconds.at(float(rng.random()))


def _raise_if_failed(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise error
