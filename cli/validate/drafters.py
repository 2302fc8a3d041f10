"""Real draft workers in place of emulated devices, and how they are simulated.

A simulated device takes the profile's time of a decode, and is right where the draft model is right along the target's
own text of the same prompt.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from cli.command.errors import CommandError
from cli.models.llama_guard import require_llama
from cli.models.measure import DraftModel, Sample
from loadgen.run.scenario_users import prompt_of, seed_of
from shared.compute.acceptance_record import AcceptanceRecord, RecordedText, Replay
from shared.planning.profile import Profile
from shared.scenario.quantity import Quantity
from shared.scenario.scenario import LinkSpec, Scenario
from shared.speculative.params import SamplingParams
from simulator.scenario import SimulatedScenario

RECORDING: Final = "drafters"  # what simulated devices call it
TURNS: Final = 1000  # requests of a user in one run, at most

Ids = tuple[int, ...]


def check_links(scenario: Scenario, source: object) -> None:
    """Raises CommandError for links: draft workers on this machine have none that could be emulated."""
    for n, group in enumerate(scenario.devices):
        if group.link != LinkSpec():
            raise CommandError(f"{source}: devices.{n}.link: --drafters run on this machine; leave it out")


def simulated(scenario: SimulatedScenario, profile: Profile, replay: Replay) -> dict[str, Any]:
    """The fields of a Simulation that describe the draft workers."""
    alone = profile.draft.ms_per_token
    draft = Quantity(alone, alone, "ms")
    further = profile.draft.ms_by_sessions.get(2, alone) / profile.draft.ms_by_sessions.get(1, alone) - 1
    groups = [
        group.model_copy(update={"alpha": None, "recording": RECORDING, "draft": draft})
        for group in scenario.devices
    ]
    feed = Quantity(further, further)
    fields = scenario.model_copy(update={"devices": tuple(groups), "feed": feed})
    return {"scenario": fields, "replays": {RECORDING: replay}}


def replay_of(
    scenario: Scenario, draft: Path, vocab: int, prompts: Sequence[Ids], answers: Sequence[Ids]
) -> Replay:
    """Where the draft model is right along the answers, for every request of the scenario's users."""
    texts = recorded(draft, vocab, tuple(prompts), tuple(answers))
    users = range(sum(group.count for group in scenario.devices))
    text_of = {
        seed_of(scenario, user, turn): prompt_of(user, turn, len(prompts))
        for user in users
        for turn in range(TURNS)
    }
    return Replay(AcceptanceRecord({}, texts), text_of)


@cache
def recorded(
    draft: Path, vocab: int, prompts: tuple[Ids, ...], answers: tuple[Ids, ...]
) -> tuple[RecordedText, ...]:
    """The draft model along every answer, at temperature 0. Raises CommandError."""
    require_llama()
    sampling = SamplingParams(0, vocab, 0.0)
    with DraftModel(draft) as model:
        return tuple(model.record(Sample(*pair, sampling)) for pair in zip(prompts, answers, strict=True))
