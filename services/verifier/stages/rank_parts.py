"""What a rank of a pipeline is made of, by its settings: model, facts, layers. Everything here loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
import torch

from services.verifier.families import UnsupportedModel, shape_of
from services.verifier.loading import dtype_of, model_config, model_folder, vocabulary_of
from services.verifier.malloc_trim import trim
from services.verifier.paged_target import CALL_COST
from services.verifier.program_pages import release_program_pages
from services.verifier.stages.block import Block
from services.verifier.stages.messages import Assign, Facts
from services.verifier.stages.parts import Front, load_block, load_front
from services.verifier.stages.pipelined_target import PipelinedTarget
from services.verifier.stages.speed import layer_times_ms
from services.verifier.stages.split import SplitError, first_layers, parse_split, split_by_speed
from services.verifier.stages.torch_outer_layers import TorchOuterLayers
from services.verifier.weights import ModelFileError, Weights
from shared.protocol.vocabulary import Vocabulary, VocabularyError
from shared.runtime.service import BadFile
from shared.runtime.settings import SettingsError, VerifierSettings

LIBRARIES: Final = ("torch", "transformers")
TYPICAL_ROWS: Final = 8  # of a pass, by which stages are compared
SAME_SPEED: Final = 2.0  # a stage that starts anew beside busy ones measures less

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """The model that a rank works on, before any weight is read."""

    folder: str
    config: Any
    weights: Weights
    dtype: torch.dtype
    place: torch.device


def model_plan(settings: VerifierSettings) -> ModelPlan:
    """The model that the settings name, which has layers for all stages. Raises SettingsError and BadFile."""
    if settings.target == "modelled":
        raise SettingsError(f"OUTRIDER_STAGES={settings.stages}: a modelled target has no layers to split")
    if not settings.model_dir:
        raise SettingsError("OUTRIDER_MODEL_DIR: not set; it names the target's folder or GGUF file")
    name = settings.device
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    try:
        folder = model_folder(settings.model_dir, settings.dtype)
        if not Path(folder).is_dir():
            raise ModelFileError(f"{folder}: a pipeline needs a folder; fetch the model first")
        config = model_config(folder)
        shape_of(config)
        plan = ModelPlan(folder, config, Weights(folder), dtype_of(config, settings.dtype, place), place)
    except (ModelFileError, UnsupportedModel) as error:
        raise BadFile(f"OUTRIDER_MODEL_DIR={settings.model_dir}: {error}") from error
    layers_of_stages(settings, plan, [1.0] * settings.stages)
    return plan


def facts_of(settings: VerifierSettings, plan: ModelPlan, rank: int) -> Facts:
    """What this rank is. A stage measures how fast it computes a layer, with the threads that it will have."""
    if settings.verifier_threads:
        torch.set_num_threads(settings.verifier_threads)
    release_program_pages()
    layer, token = layer_times_ms(plan.config, plan.dtype, plan.place) if rank else (0.0, 0.0)
    trim()
    return Facts(
        rank=rank,
        release=version("outrider"),
        libraries=" ".join(f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES),
        model=plan.weights.digest(),
        dtype=str(plan.dtype).removeprefix("torch."),
        kv_tokens=settings.kv_tokens,
        page_tokens=settings.page_tokens,
        device=plan.place.type,
        layer_ms=layer,
        token_ms=token,
    )


def layers_of_stages(
    settings: VerifierSettings, plan: ModelPlan, layer_ms: Sequence[float]
) -> tuple[int, ...]:
    """How many layers each stage gets: as the settings say, else by these speeds. Raises SettingsError."""
    layers = plan.config.num_hidden_layers
    try:
        if settings.stage_layers:
            return parse_split(settings.stage_layers, len(layer_ms), layers)
        return split_by_speed(layers, layer_ms)
    except SplitError as error:
        setting = (
            f"OUTRIDER_STAGE_LAYERS={settings.stage_layers}"
            if settings.stage_layers
            else f"OUTRIDER_STAGES={settings.stages}"
        )
        raise SettingsError(f"{setting}: {error}") from error


class Assigner:
    """Gives the stages their layers, in a later group the same ones again if their speeds are still about the same."""

    def __init__(self, settings: VerifierSettings, plan: ModelPlan) -> None:
        self._settings = settings
        self._plan = plan
        self._measured: list[tuple[str, float]] = []
        self._given: Assign | None = None

    def __call__(self, facts: Sequence[Facts]) -> Assign:
        """Layers of the stages with these facts, of which the first are rank 0's. Raises SettingsError."""
        measured = [(one.device, one.layer_ms + TYPICAL_ROWS * one.token_ms) for one in facts[1:]]
        if self._given is None or not alike(self._measured, measured):
            counts = layers_of_stages(self._settings, self._plan, [ms for _, ms in measured])
            self._given, self._measured = Assign(counts, CALL_COST[self._plan.place.type]), measured
            log.info("layers split", layers=counts, layer_ms=[round(ms, 2) for _, ms in measured])
        return self._given


def alike(before: Sequence[tuple[str, float]], now: Sequence[tuple[str, float]]) -> bool:
    """Whether these stages, (device, ms of a layer) each, may keep a split made for those before."""
    return len(before) == len(now) and all(
        old[0] == new[0] and max(old[1], new[1]) <= SAME_SPEED * min(old[1], new[1])
        for old, new in zip(before, now, strict=True)
    )


class FrontLoader:
    """Makes rank 0's part of the target, for every group anew; the weights are read once."""

    def __init__(self, settings: VerifierSettings, plan: ModelPlan) -> None:
        self._settings = settings
        self._plan = plan
        self._held: tuple[Front, Vocabulary] | None = None

    def __call__(self) -> PipelinedTarget:
        """The target, with an empty pool. Blocks while loading. Raises BadFile."""
        settings, plan = self._settings, self._plan
        if self._held is None:
            try:
                vocabulary = vocabulary_of(plan.folder, plan.config.vocab_size)
                vocabulary = replace(vocabulary, entries=())  # a hundred MiB, which nobody reads here
                trim()
                self._held = load_front(plan.weights, plan.config, plan.dtype, plan.place), vocabulary
            except (ModelFileError, VocabularyError) as error:
                raise BadFile(f"OUTRIDER_MODEL_DIR={settings.model_dir}: {error}") from error
        front, vocabulary = self._held
        shape = shape_of(plan.config)
        outer = TorchOuterLayers(
            shape,
            front,
            vocab=vocabulary.size,
            dtype=plan.dtype,
            device=plan.place,
            hidden=plan.config.hidden_size,
        )
        return PipelinedTarget(
            outer,
            positions=shape.positions,
            vocabulary=vocabulary.hash,
            vocab=vocabulary.size,
            vocabulary_blocks=vocabulary.blocks,
            kv_tokens=settings.kv_tokens,
            page_tokens=settings.page_tokens,
            prefix_sharing=settings.prefix_sharing,
            max_context=settings.max_context,
            device=plan.place.type,
        )


class BlockLoader:
    """What a stage does when it is told its layers. In a later group the same layers are not read again."""

    def __init__(self, settings: VerifierSettings, plan: ModelPlan, rank: int) -> None:
        self._settings = settings
        self._plan = plan
        self._rank = rank
        self._layers = (0, 0)  # first, count
        self._body: Any = None

    def __call__(self, assign: Assign) -> Block:
        """The layers with an empty pool. Raises BadFile."""
        settings, plan = self._settings, self._plan
        layers = first_layers(assign.layers)[self._rank - 1], assign.layers[self._rank - 1]
        if layers != self._layers:
            self._body, self._layers = None, (0, 0)
            try:
                self._body = load_block(plan.weights, plan.config, *layers, plan.dtype, plan.place)
            except ModelFileError as error:
                raise BadFile(f"OUTRIDER_MODEL_DIR={settings.model_dir}: {error}") from error
            self._layers = layers
        slots = settings.kv_tokens // settings.page_tokens * settings.page_tokens
        return Block(
            self._body,
            kv_tokens=slots,
            page_tokens=settings.page_tokens,
            call_cost=assign.call_cost,
            dtype=plan.dtype,
        )
