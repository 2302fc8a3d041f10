"""Plays a cohort and its plan with the deployed services in virtual time.

The prompts cross the cell first (shared/cells, with the plan's shares); a request reaches the gateway when its prompt
is carried. Gateway, scheduler, verifier and one draft worker are the deployed ones, without delays between them. The
target has the verifier's law; the draft worker is a DraftNode, and the policy a FixedCycle, unless told otherwise.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from loadgen.request import ChatRequest, Record
from services.gateway.sessions import GatewaySessions
from shared.cells.cell import Cell
from shared.compute.drafter import Drafter
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.planning.cost import Row, Shape
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.latency_plan import LatencyPlan
from shared.runtime.settings import (
    DraftWorkerSettings,
    GatewaySettings,
    SchedulerSettings,
    VerifierSettings,
    isolated,
)
from simulator import services
from simulator.client import SimulatedClient
from simulator.cohort.draft_node import DraftNode
from simulator.cohort.fixed_cycle import FixedCycle
from simulator.process import Incarnation
from simulator.services import Gateway
from simulator.stack import SimulatedStack
from simulator.virtual_loop import run_virtual

VOCAB: Final = 49152
READY_S: Final = 5.0  # virtual seconds for all processes to know one another
MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What of the formula holds. Without: prompts take their time in a pass; acceptance is chance, and the drafter a
    device like any other; the scheduler has this deployed policy in place of the fixed cycle.
    """

    free_prompts: bool = True
    even_acceptance: bool = True
    policy: str = ""


def play(cohort: Cohort, plan: LatencyPlan, assumed: Assumptions | None = None) -> float:
    """The latency to the last answer, in ms, from the first bit of the uploads on."""
    return run_virtual(_play(cohort, plan, assumed or Assumptions()))


async def _play(cohort: Cohort, plan: LatencyPlan, assumed: Assumptions) -> float:
    arrivals_s = uploads_s(cohort, plan)
    order = sorted(range(len(arrivals_s)), key=lambda user: (arrivals_s[user], user))
    stack = _stack(cohort, plan, assumed, order)
    client = SimulatedClient(partial(_gateways, stack), VOCAB)
    async with stack:
        await asyncio.sleep(READY_S)
        began = client.now()

        async def user(of: int) -> Record:
            await asyncio.sleep(arrivals_s[of] + 1e-9 * order.index(of))
            record = Record(_request(cohort, of), client.now(), client.now())
            await client.complete(record)
            return record

        records = await asyncio.gather(*map(user, range(len(arrivals_s))))
        stack.raise_if_failed()
    for record in records:
        if record.error:
            raise RuntimeError(f"{record.request.id}: {record.error}")
    return MS_PER_S * (max(record.ended for record in records) - began)


def uploads_s(cohort: Cohort, plan: LatencyPlan) -> list[float]:
    """When each user's prompt is carried, in seconds, by the cells with the plan's shares; 0 without a cell."""
    done = [0.0] * len(cohort.users)
    for shared in cohort.cells:
        uploads = shared.uploads
        cell = Cell(uploads.cell.bandwidth_hz, "shares")
        for name, eta in zip(uploads.ids, uploads.efficiency, strict=True):
            cell.join(name, float(eta), 0.0)
        total = float(sum(plan.bandwidth_hz[m] for m in shared.members))
        scale = min(1.0, uploads.cell.bandwidth_hz / total)
        shares = zip(uploads.ids, shared.members, strict=True)
        cell.give({name: scale * float(plan.bandwidth_hz[m]) for name, m in shares}, 0.0)
        for name, bits in zip(uploads.ids, uploads.bits, strict=True):
            cell.send(name, "up", float(bits), 0.0)
        members = dict(zip(uploads.ids, shared.members, strict=True))
        while (at := cell.next_at()) < float("inf"):
            for arrival in cell.take(at):
                done[members[arrival.member]] = arrival.at
    return done


def _request(cohort: Cohort, user: int) -> ChatRequest:
    """Seeds tell users apart; ids begin at 1."""
    prefix = max(1, round(cohort.users[user].prefix))
    prompt = tuple(1 + (7919 * (user + 1) + 31 * at) % (VOCAB - 1) for at in range(prefix))
    return ChatRequest(
        f"u{user}", "modelled", prompt, cohort.outputs[user], seed=user + 1, raw=True, ignore_eos=True
    )


def _stack(cohort: Cohort, plan: LatencyPlan, assumed: Assumptions, order: Sequence[int]) -> SimulatedStack:
    stack = SimulatedStack(1, decode=False)
    batches = [[order.index(user) for user in batch] for batch in plan.batches]
    cycle = partial(FixedCycle, batches, plan.draft_length)
    settings = isolated(
        SchedulerSettings,
        name="scheduler",
        policy=assumed.policy or "fixed-k",
        k=plan.draft_length,
        max_rows=512,
        prefill_tokens=65536,
        move_timeout_s=3600.0,
    )
    stack.add("scheduler", services.scheduler(settings, policy=None if assumed.policy else cycle))
    stack.add("gateway", services.gateway(isolated(GatewaySettings, name="gateway")))
    law = _pass_ms(cohort, plan.draft_length, assumed.free_prompts)
    target = partial(
        ModelledTarget, VOCAB, kv_tokens=1 << 22, max_context=1 << 16, prefix_sharing=False, cost_ms=law
    )
    verifier = isolated(
        VerifierSettings,
        name="verifier",
        target="modelled",
        kv_tokens=1 << 22,
        feed_tokens=65536,
        max_context=1 << 16,
    )
    stack.add("verifier", services.verifier(verifier, target))
    device = isolated(
        DraftWorkerSettings, name="node", drafter="modelled", draft_sessions=1024, draft_kv_tokens=1 << 22
    )
    stack.add("node", services.draft_worker(device, _drafter(cohort, plan, assumed)))
    return stack


def _drafter(cohort: Cohort, plan: LatencyPlan, assumed: Assumptions) -> Callable[[], Drafter]:
    if cohort.drafter is None:
        raise ValueError("this plays cohorts with one node that drafts for all")
    law = cohort.drafter

    def step_ms(rows: int, longest: int) -> float:
        return float(law.pass_ms(Shape(rows, rows, 1, rows * longest, longest)))

    if assumed.even_acceptance:
        batches = [[user + 1 for user in batch] for batch in plan.batches]
        emitted = cohort.users[0].emitted(plan.draft_length)
        return partial(DraftNode, batches, step_ms, emitted, VOCAB)
    mean = round(sum(user.prefix for user in cohort.users) / len(cohort.users))
    first, second = step_ms(1, mean), step_ms(2, mean)
    return partial(
        ModelledDrafter,
        cohort.users[0].alpha,
        draft_ms=first,
        row_share=(second - first) / first,
        feed_share=0.0,
        vocab=VOCAB,
        capacity=1024,
        kv_tokens=1 << 22,
    )


def _pass_ms(cohort: Cohort, length: int, free_prompts: bool) -> Callable[[Sequence[Row]], float]:
    """The verifier's law of rows as (new tokens, cached tokens), in ms. Rows of prompts may be free."""
    law = cohort.verifier.law

    def cost_ms(rows: Sequence[Row]) -> float:
        return law.cost_ms([row for row in rows if row[0] <= length + 1] if free_prompts else rows)

    return cost_ms


def _gateways(stack: SimulatedStack) -> list[tuple[GatewaySessions, Incarnation]]:
    return [(gateway.sessions, life) for gateway, life in stack.living(Gateway) if gateway.sessions.address]
