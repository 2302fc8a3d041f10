"""Whether this device may join a deployment: same protocol version, same vocabulary. Pure."""

from collections.abc import Callable, Mapping

from shared.protocol.limits import PROTOCOL_VERSION
from shared.protocol.vocabulary import (
    FIELD_BLOCKS,
    FIELD_HASH,
    Entry,
    Vocabulary,
    first_differences,
    first_different_block,
)

SHOWN = 5  # ids in the message


def refusal_reason(
    deployment: Mapping[str, str], vocabulary: str, explain: Callable[[Mapping[str, str]], str]
) -> str | None:
    """Why the device may not join, None when it may. explain(deployment) tells where the vocabularies differ."""
    if other := another_version(deployment):
        return other
    if deployment.get(FIELD_HASH) != vocabulary:
        target = deployment.get("target", "the target")
        return f"the draft model's vocabulary is not that of {target}: {explain(deployment)}"
    return None


def another_version(deployment: Mapping[str, str]) -> str | None:
    """The same, of the protocol version alone: before there is a draft model."""
    version = deployment.get("protocol", "")
    if version == str(PROTOCOL_VERSION):
        return None
    return f"the deployment speaks protocol version {version or '?'}, this device {PROTOCOL_VERSION}"


def explain_by_hash(vocabulary: str) -> Callable[[Mapping[str, str]], str]:
    """For a drafter that has no token texts: the two hashes."""
    return lambda deployment: f"hash {vocabulary} here, {deployment.get(FIELD_HASH, 'none')} there"


def explain_by_texts(ours: Vocabulary, theirs: Vocabulary | None, deployment: Mapping[str, str]) -> str:
    """The first ids that differ.

    theirs: the target's vocabulary where its tokenizer.json is at hand and is the deployment's; otherwise the
    published digests tell the first block of ids that differs, and our texts there are shown.
    """
    if theirs is not None and theirs.hash == deployment.get(FIELD_HASH):
        pairs = first_differences(ours, theirs, SHOWN)
        return "; ".join(f"id {_id(a, b)} is {_text(a)} here, {_text(b)} there" for a, b in pairs)
    block = first_different_block(ours, deployment.get(FIELD_BLOCKS, ""))
    if block is None:
        return explain_by_hash(ours.hash)(deployment)
    low, high = block
    shown = [entry for entry in ours.entries if low <= entry.id < high][:SHOWN]
    texts = ", ".join(f"{entry.id}: {_text(entry)}" for entry in shown) or "no tokens"
    return f"they differ first among ids {low} to {high - 1}; ours there begin with {texts}"


def _id(ours: Entry | None, theirs: Entry | None) -> int:
    return (ours or theirs or Entry(-1, b"", False)).id


def _text(entry: Entry | None) -> str:
    if entry is None:
        return "no token"
    return f"{entry.text!r}{' (special)' if entry.special else ''}"
