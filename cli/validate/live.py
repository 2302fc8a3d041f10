"""A scenario live: the real stack with emulated devices, measured by its users."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any, Final

from cli.admin import Admin
from cli.command.errors import CommandError
from cli.race.race import wait_until_drained
from cli.stack.stack import HOST, LocalStack, StackOptions
from loadgen.client.streaming import Client
from loadgen.metrics.stack_metrics import Delta, scrape, stack_metrics
from loadgen.metrics.summary import itl_ms
from loadgen.request import ChatRequest, Record
from loadgen.run.scenario_users import Users, UsersError, use
from shared.planning.windows import NO_WINDOW
from shared.scenario.scenario import PolicyConfig, Scenario

PROBE_POLICY: Final = "greedy-batch"
PROBE_USERS: Final = 4
PROBE_TOKENS: Final = 24
PAGES: Final = (1, 2)  # of scheduler and verifier, after the first health port

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LiveScenario:
    """A running stack that serves the users of a scenario's devices. prompts: token ids."""

    stack: LocalStack
    admin: Admin
    client: Client
    scenario: Scenario
    devices: Sequence[str]
    prompts: Sequence[Ids]

    async def run(
        self, policy: PolicyConfig, settle_s: float, measure_s: float
    ) -> tuple[Users, dict[str, Any]]:
        """Serve all users under one policy: the users, and what the services counted. Raises CommandError."""
        await self.admin.set_policy(policy.policy, policy.k, window=policy.window or NO_WINDOW)
        pages = [f"http://{HOST}:{self.stack.options.ports.health + page}/metrics" for page in PAGES]
        before, begun = await scrape(pages), self.client.now()
        what = (self._model, self.scenario, self.devices, self.prompts)
        try:
            users = await use(self.client, *what, settle_s, measure_s)
        except UsersError as error:
            raise CommandError(f"{policy}: {error}") from None
        counted = stack_metrics(Delta(before, await scrape(pages)), self.client.now() - begun)
        await wait_until_drained(self.admin)
        self.stack.raise_if_failed()
        return users, counted

    async def probe_ms(self) -> float:
        """Median milliseconds from pass to pass of fixed batches: how fast the machine is just now."""
        await self.admin.set_policy(PROBE_POLICY, window=NO_WINDOW)
        records = [self._probe(n) for n in range(PROBE_USERS)]
        await asyncio.gather(*map(self.client.complete, records))
        await wait_until_drained(self.admin)
        if failed := next((record.error for record in records if record.error), ""):
            raise CommandError(f"a calibration's request failed: {failed}")
        return median(chain.from_iterable(map(itl_ms, records)))

    @property
    def _model(self) -> str:
        return self.stack.options.served_name

    def _probe(self, n: int) -> Record:
        prompt = self.prompts[n % len(self.prompts)]
        request = ChatRequest(f"probe{n}", self._model, prompt, PROBE_TOKENS, raw=True, ignore_eos=True)
        return Record(request, self.client.now(), self.client.now())


@asynccontextmanager
async def live_scenario(
    options: StackOptions, scenario: Scenario, devices: Sequence[str], prompts: Sequence[Ids]
) -> AsyncIterator[LiveScenario]:
    """Start the stack, and stop it at the end. Raises one of cli_errors.expected()."""
    async with LocalStack(options) as stack, Admin(stack.url) as admin, Client(stack.url) as client:
        yield LiveScenario(stack, admin, client, scenario, devices, prompts)
