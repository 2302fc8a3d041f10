"""What a verifier says about itself: to gateways and devices in the deployment's record, to people in its heartbeat."""

from pathlib import Path

from shared.compute.target import TargetModel
from shared.protocol.limits import PROTOCOL_VERSION
from shared.protocol.vocabulary import FIELD_BLOCKS, FIELD_HASH
from shared.runtime.settings import VerifierSettings


def record(settings: VerifierSettings, target: TargetModel, vocabulary_blocks: str) -> dict[str, str]:
    """The deployment's record. vocabulary_blocks: digests, for a device whose vocabulary differs."""
    return {
        "protocol": str(PROTOCOL_VERSION),
        "target": target_name(settings),
        "draft": settings.draft,
        FIELD_HASH: target.vocabulary,
        FIELD_BLOCKS: vocabulary_blocks,
        "vocab": str(target.vocab),
        "max_context": str(target.max_context),
        "pool_tokens": str(target.pool_tokens),
    }


def detail(settings: VerifierSettings, layers: str) -> str:
    """For people: backend and model, and where its layers run if that is to be said."""
    return ", ".join(part for part in (f"{settings.target} {target_name(settings)}", layers) if part)


def target_name(settings: VerifierSettings) -> str:
    """The target's name."""
    return Path(settings.model_dir).name if settings.target == "torch" else "modelled"
