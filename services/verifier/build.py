"""Builds the models that the settings name. Imports torch and transformers only when needed."""

from typing import TYPE_CHECKING

from shared.compute.core_drafter import CoreDrafter, LookupDrafter
from shared.compute.model_drafter import ModelDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.compute.target import TargetModel, TargetRow
from shared.compute.tree_drafter import TreeDrafter
from shared.runtime.service import BadFile
from shared.runtime.settings import SettingsError, VerifierSettings
from shared.speculative.params import SamplingParams

if TYPE_CHECKING:
    from services.verifier.torch_target import TorchTarget


def build_target(settings: VerifierSettings) -> tuple[TargetModel, str]:
    """The warmed-up target and its vocabulary's block digests ("" for a modelled one). Blocks while loading.

    Raises SettingsError and BadFile.
    """
    if settings.target == "modelled":
        return _modelled(settings), ""
    if not settings.model_dir:
        raise SettingsError(
            "OUTRIDER_MODEL_DIR: not set; it names the target's folder, GGUF file or hub name"
        )
    target = _torch(settings, settings.model_dir)
    if settings.verifier_threads:
        target.set_threads(settings.verifier_threads)
    warm(target)
    return target, target.vocabulary_blocks


def build_drafter(settings: VerifierSettings, target: TargetModel) -> CoreDrafter:
    """The core's own drafter: the model that the settings name, or lookups. Blocks while loading.

    Raises SettingsError when the model is another vocabulary's, and BadFile.
    """
    if not settings.core_draft or settings.target == "modelled":
        return LookupDrafter()
    return ModelDrafter(_core_model(settings, target))


def build_tree_drafter(settings: VerifierSettings, target: TargetModel) -> TreeDrafter | None:
    """The core's own drafter of trees: the model that the settings name; None without one. Blocks while loading.

    Raises SettingsError when the model is another vocabulary's, and BadFile.
    """
    if not settings.core_draft:
        return None
    from services.verifier.trees.core_tree_drafter import CoreTreeDrafter  # noqa: PLC0415

    return CoreTreeDrafter(_core_model(settings, target))


def _core_model(settings: VerifierSettings, target: TargetModel) -> "TorchTarget":
    """The small model beside the target. Raises SettingsError and BadFile."""
    model = _torch(settings, settings.core_draft)
    if model.vocabulary != target.vocabulary:
        raise SettingsError(
            f"OUTRIDER_CORE_DRAFT={settings.core_draft}: its vocabulary is not the target's; "
            "give a smaller model of the same family"
        )
    model.governor = None  # the target's governs the threads of both
    warm(model)
    return model


def warm(target: TargetModel) -> None:
    """Run one small pass, so that the first request does not wait for one-time set-up."""
    sampling = SamplingParams(seed=1, vocab=target.vocab, temperature=1.0)
    if target.admit("warm", (0,), ["warm"], 4):
        target.forward([TargetRow("warm", 0, (0, 0, 0, 0), 1, choose=True, sampling=sampling)])
    target.forget("warm")


def _modelled(settings: VerifierSettings) -> ModelledTarget:
    return ModelledTarget(
        settings.model_vocab,
        kv_tokens=settings.kv_tokens,
        page_tokens=settings.page_tokens,
        max_context=settings.max_context,
        beta_ms=settings.model_beta_ms,
        per_token_ms=settings.model_per_token_ms,
        prefix_sharing=settings.prefix_sharing,
    )


def _torch(settings: VerifierSettings, source: str) -> "TorchTarget":
    """The model of a folder, GGUF file or hub name, with the settings' limits."""
    from services.verifier.families import UnsupportedModel  # noqa: PLC0415  # seconds, and a gigabyte
    from services.verifier.loading import load_target  # noqa: PLC0415
    from services.verifier.weights import ModelFileError  # noqa: PLC0415

    try:
        return load_target(
            source,
            dtype=settings.dtype,
            device=settings.device,
            kv_tokens=settings.kv_tokens,
            page_tokens=settings.page_tokens,
            prefix_sharing=settings.prefix_sharing,
            max_context=settings.max_context,
        )
    except (ModelFileError, UnsupportedModel) as error:
        raise BadFile(str(error)) from error
