"""Real draft workers in place of emulated devices, and how they are simulated.

A simulated device takes the time of a decode and of a prompt that is measured of the model alone, and is right where
the model is right along the target's own text of the same prompt.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from cli.command.errors import CommandError
from cli.models.llama_guard import require_llama
from cli.models.measure import DraftModel, Sample
from loadgen.run.scenario_users import prompt_of, seed_of
from shared.compute.acceptance_record import AcceptanceRecord, Replay
from shared.scenario.quantity import Quantity
from shared.scenario.scenario import LinkSpec, Scenario
from shared.speculative.params import SamplingParams
from simulator.scenario import SimulatedScenario

RECORDING: Final = "drafters"  # what simulated devices call it
DECODES: Final = 24
TURNS: Final = 1000  # requests of a user in one run, at most

Ids = tuple[int, ...]


def check_links(scenario: Scenario, source: object) -> None:
    """Raises CommandError for links: draft workers on this machine have none that could be emulated."""
    for n, group in enumerate(scenario.devices):
        if group.cell:
            raise CommandError(
                f"{source}: devices.{n}.cell: --drafters are processes of their own, and the devices of a cell are "
                "emulated in one; leave it out"
            )
        if group.link != LinkSpec():
            raise CommandError(f"{source}: devices.{n}.link: --drafters run on this machine; leave it out")


def simulated(scenario: SimulatedScenario, drafts: "Drafts") -> dict[str, Any]:
    """The fields of a Simulation that describe the draft workers."""
    draft = Quantity(drafts.ms_per_token, drafts.ms_per_token, "ms")
    groups = [
        group.model_copy(update={"alpha": None, "recording": RECORDING, "draft": draft})
        for group in scenario.devices
    ]
    feed = Quantity(drafts.feed, drafts.feed)
    fields = scenario.model_copy(update={"devices": tuple(groups), "feed": feed})
    return {"scenario": fields, "replays": {RECORDING: Replay(drafts.record, drafts.text_of(scenario))}}


@dataclass(frozen=True, slots=True)
class Drafts:
    """A draft model along the answers to some prompts, at temperature 0.

    ms_per_token: of a decode with half an answer. feed: time of a further token of a prompt, as a share of that.
    """

    record: AcceptanceRecord
    ms_per_token: float
    feed: float

    def text_of(self, scenario: Scenario) -> dict[int, int]:
        """Index of the text by the seed of each request of the scenario's users."""
        users = range(sum(group.count for group in scenario.devices))
        return {
            seed_of(scenario, user, turn): prompt_of(user, turn, len(self.record.texts))
            for user in users
            for turn in range(TURNS)
        }


@cache
def drafts_of(draft: Path, vocab: int, prompts: tuple[Ids, ...], answers: tuple[Ids, ...]) -> Drafts:
    """Ask and time the draft model. Raises CommandError."""
    require_llama()
    sampling = SamplingParams(0, vocab, 0.0)
    read = round(fmean(map(len, prompts)))
    with DraftModel(draft) as model:
        texts = tuple(model.record(Sample(*pair, sampling)) for pair in zip(prompts, answers, strict=True))
        decode_ms = model.ms_per_decode(1, read + round(fmean(map(len, answers)) / 2), DECODES)
        prompt_ms = model.ms_per_prompt(read, DECODES)
    feed = max(0.0, (prompt_ms / decode_ms - 1) / (read - 1))
    return Drafts(AcceptanceRecord({}, texts), decode_ms, feed)
