"""`python -m services.draft_worker`: one device, from settings."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from services.draft_worker import proof
from services.draft_worker.handshake import explain_by_hash, explain_by_texts
from services.draft_worker.metrics import Metrics
from services.draft_worker.worker import DraftWorker
from shared.broker.device_broker import ROLE
from shared.compute.compute import ThreadCompute
from shared.compute.drafter import Drafter
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_tree_drafter import ModelledTreeDrafter
from shared.compute.tree_drafter import TreeDrafter
from shared.protocol.vocabulary import Vocabulary, VocabularyError, vocabulary_of_tokenizer_json
from shared.runtime import logs
from shared.runtime.connect import connect_device
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.service import BadFile, main
from shared.runtime.settings import DraftWorkerSettings, SettingsError, load_named

Explain = Callable[[Mapping[str, str]], str]

log = structlog.get_logger()


async def run(stop: asyncio.Event) -> None:
    """Run one of the core's own devices, with settings from the environment."""
    settings = load_named(DraftWorkerSettings)
    logs.configure(settings.log_level, settings.log_format, role="draft_worker", name=settings.name)
    await prove_llama(settings)
    await serve(settings, stop)


async def prove_llama(settings: DraftWorkerSettings) -> None:
    """Check that llama.cpp works, if it is the drafter, in a separate process. Raises BadFile if it does not."""
    if settings.drafter != "llama":
        return
    compute = ThreadCompute("proof")
    try:
        found = await compute.run(proof.prove)
    finally:
        compute.close()
    if found.works:
        return
    if found.conclusive:
        raise BadFile(proof.failure_message(found))
    log.warning("llama.cpp is not proved", reason=found.error)  # the drafter fails later if it does not work


async def serve(settings: DraftWorkerSettings, stop: asyncio.Event) -> None:
    """Build the device and serve until stop is set."""
    compute = ThreadCompute("drafter", settings.nice)
    drafter, explain = await compute.run(lambda: make_drafter(settings))
    trees = partial(make_tree_drafter, settings)
    broker = connect_device(settings, settings.name or ROLE)
    registry = CollectorRegistry()
    worker = DraftWorker(
        settings, broker, drafter, compute, Ids(settings.seed), Metrics(registry), explain, trees
    )
    try:
        async with HealthServer(
            settings.health_host, settings.health_port, registry, worker.not_ready_reason, settings.stack
        ):
            await worker.run(stop)
    finally:
        await broker.close()
        await compute.run(drafter.close)
        compute.close()


def make_drafter(settings: DraftWorkerSettings) -> tuple[Drafter, Explain]:
    """The drafter that the settings name, and its `explain` for vocabularies that differ."""
    if settings.drafter == "modelled":
        modelled = ModelledDrafter(
            settings.model_alpha,
            draft_ms=settings.model_draft_ms,
            vocab=settings.model_vocab,
            capacity=settings.draft_sessions,
            kv_tokens=settings.draft_kv_tokens,
        )
        return modelled, explain_by_hash(modelled.vocabulary)
    from services.draft_worker.llama_drafter import Limits, LlamaDrafter  # noqa: PLC0415
    from services.draft_worker.llama_model import ModelFileError  # noqa: PLC0415

    if not settings.draft_model:
        raise SettingsError("OUTRIDER_DRAFT_MODEL is not set: the GGUF file of the draft model")
    try:
        drafter = LlamaDrafter(
            settings.draft_model,
            Limits(settings.draft_sessions, settings.draft_kv_tokens),
            settings.draft_threads,
        )
    except ModelFileError as error:
        raise BadFile(str(error)) from None
    target = _target_vocabulary(settings.model_dir)
    return drafter, lambda deployment: explain_by_texts(drafter.full_vocabulary(), target(), deployment)


def make_tree_drafter(settings: DraftWorkerSettings) -> TreeDrafter:
    """A drafter of trees on the same model. Raises BadFile."""
    if settings.drafter == "modelled":
        return ModelledTreeDrafter(
            draft_ms=settings.model_draft_ms,
            vocab=settings.model_vocab,
            capacity=settings.draft_sessions,
            kv_tokens=settings.draft_kv_tokens,
        )
    from services.draft_worker.llama_model import ModelFileError  # noqa: PLC0415
    from services.draft_worker.llama_tree import LlamaTreeDrafter  # noqa: PLC0415
    from services.draft_worker.tree_book import TreeLimits  # noqa: PLC0415

    limits = TreeLimits(settings.draft_sessions, settings.draft_kv_tokens, max(64, settings.draft_sessions))
    try:
        return LlamaTreeDrafter(settings.draft_model, limits, settings.draft_threads)
    except ModelFileError as error:
        raise BadFile(str(error)) from None


def _target_vocabulary(model_dir: str) -> Callable[[], Vocabulary | None]:
    """A function that reads the target's vocabulary, or returns None if its tokenizer is not on this machine."""

    def read() -> Vocabulary | None:
        path = Path(model_dir) / "tokenizer.json"
        try:
            return vocabulary_of_tokenizer_json(path) if model_dir else None
        except VocabularyError:
            return None  # the published digests are used instead

    return read


if __name__ == "__main__":
    main("draft_worker", run)
