"""What a rank of a pipeline is made of, by its settings: model, facts, layers. Everything here loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
import torch

from services.verifier.families import UnsupportedModel, shape_of
from services.verifier.loading import dtype_of, model_config, model_folder, vocabulary_of
from services.verifier.stages.block import Block
from services.verifier.stages.messages import Assign, Facts
from services.verifier.stages.parts import load_block, load_front
from services.verifier.stages.pipelined_target import PipelinedTarget
from services.verifier.stages.speed import layer_times_ms
from services.verifier.stages.split import SplitError, first_layers, parse_split, split_by_speed
from services.verifier.stages.stage import Load
from services.verifier.weights import ModelFileError, Weights
from shared.runtime.service import BadFile
from shared.runtime.settings import SettingsError, VerifierSettings

LIBRARIES: Final = ("torch", "transformers")
TYPICAL_ROWS: Final = 8  # of a pass, by which stages are compared

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
    """The model that the settings name. Raises SettingsError and BadFile."""
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
        return ModelPlan(folder, config, Weights(folder), dtype_of(config, settings.dtype, place), place)
    except (ModelFileError, UnsupportedModel) as error:
        raise BadFile(f"OUTRIDER_MODEL_DIR={settings.model_dir}: {error}") from error


def facts_of(settings: VerifierSettings, plan: ModelPlan, rank: int) -> Facts:
    """What this rank is. A stage measures how fast it computes a layer, with the threads that it will have."""
    if settings.verifier_threads:
        torch.set_num_threads(settings.verifier_threads)
    layer, token = layer_times_ms(plan.config, plan.dtype, plan.place) if rank else (0.0, 0.0)
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


def assignment(settings: VerifierSettings, plan: ModelPlan, call_cost: int, facts: Sequence[Facts]) -> Assign:
    """Which stage gets which layers: as the settings say, else by the stages' measured speed. Raises SettingsError."""
    layers = plan.config.num_hidden_layers
    measured = [one.layer_ms + TYPICAL_ROWS * one.token_ms for one in facts[1:]]
    try:
        if settings.stage_layers:
            counts = parse_split(settings.stage_layers, len(measured), layers)
        else:
            counts = split_by_speed(layers, measured)
    except SplitError as error:
        setting = (
            f"OUTRIDER_STAGE_LAYERS={settings.stage_layers}" if settings.stage_layers else "OUTRIDER_STAGES"
        )
        raise SettingsError(f"{setting}: {error}") from error
    log.info("layers split", layers=counts, layer_ms=[round(ms, 2) for ms in measured])
    return Assign(counts, call_cost)


def front_target(settings: VerifierSettings, plan: ModelPlan) -> PipelinedTarget:
    """Rank 0's part of the target. Blocks while loading. Raises BadFile."""
    try:
        vocabulary = vocabulary_of(plan.folder, plan.config.vocab_size)
        front = load_front(plan.weights, plan.config, plan.dtype, plan.place)
    except ModelFileError as error:
        raise BadFile(f"OUTRIDER_MODEL_DIR={settings.model_dir}: {error}") from error
    return PipelinedTarget(
        shape_of(plan.config),
        front,
        vocabulary=vocabulary.hash,
        vocab=vocabulary.size,
        vocabulary_blocks=vocabulary.blocks,
        kv_tokens=settings.kv_tokens,
        page_tokens=settings.page_tokens,
        prefix_sharing=settings.prefix_sharing,
        max_context=settings.max_context,
        dtype=plan.dtype,
        device=plan.place,
        hidden=plan.config.hidden_size,
    )


def block_loader(settings: VerifierSettings, plan: ModelPlan, rank: int) -> Load:
    """What a stage does when it is told its layers."""

    def load(assign: Assign) -> Block:
        first, count = first_layers(assign.layers)[rank - 1], assign.layers[rank - 1]
        body = load_block(plan.weights, plan.config, first, count, plan.dtype, plan.place)
        slots = settings.kv_tokens // settings.page_tokens * settings.page_tokens
        return Block(
            body,
            kv_tokens=slots,
            page_tokens=settings.page_tokens,
            call_cost=assign.call_cost,
            dtype=plan.dtype,
        )

    return load
