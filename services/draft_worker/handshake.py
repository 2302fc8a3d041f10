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
    """Why the device may not join; None when it may. explain(deployment): describes where the vocabularies differ."""
    if other := another_version(deployment):
        return other
    if deployment.get(FIELD_HASH) != vocabulary:
        target = deployment.get("target", "the target")
        return f"the draft model's vocabulary is not that of {target}: {explain(deployment)}"
    return None


def another_version(deployment: Mapping[str, str]) -> str | None:
    """Why the device may not join because of its protocol version; None when the versions are equal."""
    version = deployment.get("protocol", "")
    if version == str(PROTOCOL_VERSION):
        return None
    return f"the deployment speaks protocol version {version or '?'}, this device {PROTOCOL_VERSION}"


def explain_by_hash(vocabulary: str) -> Callable[[Mapping[str, str]], str]:
    """An `explain` for a drafter without token texts: it names the two hashes."""
    return lambda deployment: f"hash {vocabulary} here, {deployment.get(FIELD_HASH, 'none')} there"


def explain_by_texts(ours: Vocabulary, theirs: Vocabulary | None, deployment: Mapping[str, str]) -> str:
    """Describe the first token ids that differ.

    theirs: the target's vocabulary, if its tokenizer.json is on this machine. Unless it matches the deployment's hash,
    the published digests give the first block of ids that differs, and our texts in it are shown.
    """
    if theirs is not None and theirs.hash == deployment.get(FIELD_HASH):
        pairs = first_differences(ours, theirs, SHOWN)
        return "; ".join(f"id {_id(a, b)} is {_text(a)} here, {_text(b)} there" for a, b in pairs)
    block = first_different_block(ours, deployment.get(FIELD_BLOCKS, ""))
    if block is None:
        return explain_by_hash(ours.hash)(deployment)
    low, high = block
    first = [entry for entry in ours.entries if low <= entry.id < high][:SHOWN]
    texts = ", ".join(f"{entry.id}: {_text(entry)}" for entry in first) or "no tokens"
    return f"they differ first among ids {low} to {high - 1}; ours there begin with {texts}"


def _id(ours: Entry | None, theirs: Entry | None) -> int:
    return (ours or theirs or Entry(-1, b"", False)).id


def _text(entry: Entry | None) -> str:
    if entry is None:
        return "no token"
    return f"{entry.text!r}{' (special)' if entry.special else ''}"
