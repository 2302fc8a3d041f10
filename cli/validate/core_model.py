"""The stack of a validation, live and as it is simulated: the real target with recorded texts, or a modelled one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cli.baseline import Baseline
from cli.command.errors import CommandError
from cli.race.recording import TEXTS, prompts_of, record, recorded
from cli.stack.stack import Ports, StackOptions
from cli.validate import drafters
from loadgen.workload.prompt_source import Synthetic
from shared.compute.modelled_drafter import FEED_SHARE as MODELLED_FEED
from shared.compute.replay import FEED_SHARE as REPLAYED_FEED
from shared.planning.profile import Profile, ServingCosts
from shared.planning.server_laws import PackedLaw
from shared.protocol.vocabulary import vocabulary_of_tokenizer_json
from shared.scenario.quantity import Quantity
from shared.scenario.scenario import DeviceSpec
from simulator.build import VOCAB
from simulator.scenario import SimulatedScenario

Ids = tuple[int, ...]
MODELLED_PROMPTS: Final = 32
MODELLED: Final = "modelled"


@dataclass(frozen=True, slots=True)
class Texts:
    """Prompts of the users, and what the target answers. file: recordings for the devices; None, () = modelled."""

    prompts: tuple[Ids, ...]
    answers: tuple[Ids, ...] = ()
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Core:
    """A target in its folder; None = a modelled core.

    profile: its costs, None of a modelled core. draft: model of real draft workers; None = devices are emulated.
    """

    folder: Path | None
    name: str
    dtype: str
    profile: Profile | None
    profile_file: Path | None
    state_dir: Path
    draft: Path | None = None

    @property
    def about(self) -> str:
        """Model and kind, for the cells that are kept."""
        if self.folder is None:
            return MODELLED
        return f"{self.name} {self.dtype}" + (f" with {self.draft.name}" if self.draft else "")

    @property
    def serving(self) -> ServingCosts | None:
        """The profile's own serving costs."""
        return self.profile.serving if self.profile else None

    def devices(self, scenario: SimulatedScenario) -> tuple[DeviceSpec, ...]:
        """The scenario's devices."""
        return scenario.fleet(self._verify_ms(scenario))

    async def texts(self, scenario: SimulatedScenario) -> Texts:
        """Prompts and recorded answers of the scenario; recording takes a minute the first time."""
        work, count = scenario.workload, sum(group.count for group in scenario.devices)
        if self.folder is None:
            rng, source = np.random.default_rng(scenario.seed), Synthetic()
            drawn = [source.draw(rng, work.prompt, ()).prompt for _ in range(max(count, MODELLED_PROMPTS))]
            return Texts(tuple(tuple(prompt) for prompt in drawn if not isinstance(prompt, str)))
        prompts = prompts_of(max(count, TEXTS), work.prompt)
        what = (self.folder, self.dtype, prompts, work.answer, self.state_dir)
        said = recorded(*what)
        if said is None:
            async with Baseline(self.folder, dtype=self.dtype) as baseline:
                said = await record(baseline, *what)
        return Texts(
            tuple(text[: -work.answer] for text in said.texts),
            tuple(text[-work.answer :] for text in said.texts),
            said.file,
        )

    def stack(self, scenario: SimulatedScenario, file: Path, texts: Texts) -> StackOptions:
        """The live stack. file: the scenario's, which the devices read."""
        recorded = ("--recordings", str(texts.file.resolve())) if texts.file else ()
        emulated = (
            "--scenario",
            str(file.resolve()),
            "--verify-ms",
            f"{self._verify_ms(scenario):.4f}",
            *recorded,
        )
        return StackOptions(
            self.folder,
            self.draft,
            self.name,
            modelled=self.folder is None,
            draft_workers=sum(group.count for group in scenario.devices) if self.draft else 0,
            ports=Ports.free(),
            state_dir=self.state_dir / "stack",
            env=self._settings(scenario),
            devices=() if self.draft else emulated,
        )

    def simulated(self, scenario: SimulatedScenario, texts: Texts) -> dict[str, Any]:
        """The fields of a Simulation that say the same as `stack`."""
        feed = REPLAYED_FEED if self.folder else MODELLED_FEED
        core = scenario.core.model_copy(update={"kv_tokens": kv_tokens(scenario)})
        if self.folder is None:
            core = core.model_copy(update={"server": modelled_law(scenario)})
        scenario = scenario.model_copy(update={"core": core, "feed": Quantity(feed, feed)})
        return {
            "scenario": scenario,
            "profile": self.profile,
            "profile_file": str(self.profile_file.resolve()) if self.profile_file else "",
            "prompts": tuple(tuple(token % VOCAB for token in prompt) for prompt in texts.prompts),
            **self._drafters(scenario, texts),
        }

    def _drafters(self, scenario: SimulatedScenario, texts: Texts) -> dict[str, Any]:
        """The fields of a Simulation that describe real draft workers."""
        if self.draft is None or self.folder is None:
            return {}
        vocab = vocabulary_of_tokenizer_json(self.folder / "tokenizer.json").size
        drafts = drafters.drafts_of(self.draft, vocab, texts.prompts, texts.answers)
        return drafters.simulated(scenario, drafts)

    def _settings(self, scenario: SimulatedScenario) -> dict[str, str]:
        settings = {"OUTRIDER_KV_TOKENS": str(kv_tokens(scenario))}
        if self.folder is None:
            law = modelled_law(scenario)
            settings["OUTRIDER_MODEL_BETA_MS"] = str(law.beta_ms)
            settings["OUTRIDER_MODEL_PER_TOKEN_MS"] = str(law.per_token_ms)
        else:
            settings |= {"OUTRIDER_DTYPE": self.dtype, "OUTRIDER_PROFILE": str(self.profile_file or "")}
        return settings

    def _verify_ms(self, scenario: SimulatedScenario) -> float:
        if self.profile is not None:
            return self.profile.pass_law.cost_ms([(1, 128)])
        return modelled_law(scenario).pass_law.cost_ms([(1, 128)])


def modelled_law(scenario: SimulatedScenario) -> PackedLaw:
    """The law of a modelled core: a live one has no cost of cached tokens. Raises CommandError."""
    law = scenario.core.server
    if not isinstance(law, PackedLaw):
        raise CommandError(
            "core.server.law: a modelled core has a packed law; change it or leave out --modelled"
        )
    return law.model_copy(update={"per_context_ms": 0.0})


def kv_tokens(scenario: SimulatedScenario) -> int:
    """Room for two sessions of every user."""
    work = scenario.workload
    return max(16384, 2 * sum(group.count for group in scenario.devices) * (work.prompt + work.answer))


def check_policies(scenario: SimulatedScenario, source: object) -> Sequence[str]:
    """Names of the scenario's policies. Raises CommandError for one that cannot be chosen at run time."""
    for policy in scenario.policies:
        if policy.batches != 2:
            raise CommandError(
                f"{source}: policies: {policy.policy}: a running stack does not change batches; leave them out"
            )
    return [str(policy) for policy in scenario.policies]
