"""The second half: every user has a device of its own elsewhere, emulated as in the policy race.

The device's drafter is replayed: it takes as long as a modelled device would, and says the reference's own next
token with a set probability (services/bench, docs/planning.md). Beside Outrider, transformers generates for the
same users as one padded batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from loadgen.client import Client
from loadgen.request import ChatRequest
from services.bench.attention import best_attention
from services.bench.emulated import emulated
from services.bench.recording import write_texts
from services.bench.turns import by_turns
from services.demo.entrants import Entrant, Run, serve
from services.demo.reference import Text
from services.local.admin import Admin
from services.local.progress import Step
from services.local.rival import Rival
from services.local.stack import LocalStack, Options
from shared.scenario.scenario import Scenario

GENERATE: Final = Entrant("generate")
VERIFY_MS: Final = 1.0  # unit of scenarios that have no milliseconds; ours has
ENTRANTS: Final = (GENERATE, Entrant("greedy-batch"), Entrant("outrider"))


def devices_elsewhere(users: int) -> Scenario:
    """A device for every user, about as sure as the demo's own draft and half as fast as a core of a server."""
    return Scenario.model_validate(
        {
            "about": "the demo's users with a laptop each, on networks of all kinds",
            "seed": 5,
            "devices": [
                {"count": users, "alpha": "0.7..0.9", "draft": "8..16 ms", "link": {"delay": "2..10 ms"}}
            ],
            "policies": ["greedy-batch", "outrider"],
        }
    )


def options(
    target: Path, name: str, dtype: str, texts: Sequence[Text], scenario: Scenario, state_dir: Path
) -> Options:
    """The stack. Writes what its devices read: the scenario, and the texts that they replay."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file, recordings = state_dir / "devices.yaml", state_dir / "texts.json"
    file.write_text(scenario.model_dump_json(exclude_none=True))  # JSON is YAML, too
    write_texts(recordings, [(*text.prompt, *text.answer) for text in texts], target)
    env = {"OUTRIDER_DTYPE": dtype}
    return emulated(target, name, file, recordings, state_dir, verify_ms=VERIFY_MS, env=env)


async def warm_up(stack: LocalStack, rival: Rival, requests: Sequence[ChatRequest]) -> None:
    """Both sides at their best: transformers' fastest attention, and devices of which the scheduler has learnt."""
    await best_attention(rival, [str(request.prompt) for request in requests], raw=False)
    async with Client(stack.url) as client, Admin(stack.url) as admin:
        await serve(client, admin, ENTRANTS[-1], with_devices(requests))


async def race(
    stack: LocalStack, rival: Rival, requests: Sequence[ChatRequest], repeats: int, step: Step
) -> dict[Entrant, list[Run]]:
    """Every entrant once a repeat. Raises CommandError."""
    async with Client(stack.url) as client, Admin(stack.url) as admin:

        async def turn(entrant: Entrant) -> Run:
            if entrant is GENERATE:
                run = await generate(rival, requests)
            else:
                run = await serve(client, admin, entrant, with_devices(requests))
            step.advance(f"{entrant} {run.tokens_per_s:.1f} tok/s")
            stack.raise_if_failed()
            return run

        return await by_turns(ENTRANTS, repeats, turn)


def with_devices(requests: Sequence[ChatRequest]) -> list[ChatRequest]:
    """The same requests, each with a device of its own."""
    return [replace(request, device=f"device-{n}") for n, request in enumerate(requests)]


async def generate(rival: Rival, requests: Sequence[ChatRequest]) -> Run:
    """transformers on all prompts as one padded batch, greedily: it has one setting for a whole batch."""
    prompts = [request.prompt for request in requests]
    job = {"prompts": prompts, "tokens": requests[0].max_tokens, "assisted": False}
    done = await rival.ask(job)
    return Run(sum(len(text) for text in done.texts) / done.seconds)
