"""Checks of an installation: llama.cpp, models, vocabularies and the broker. Each returns a Finding."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.command.errors import ModelError
from cli.command.sizes import human_size
from cli.models import stamp, store
from shared.broker.contract import BrokerAway
from shared.broker.embedded import EmbeddedBroker, NoServer
from shared.broker.redis_broker import RedisBroker
from shared.protocol.vocabulary import (
    Entry,
    Vocabulary,
    VocabularyError,
    first_differences,
    vocabulary_of_tokenizer_json,
)
from shared.runtime.settings import Common, SettingsError, is_set, load

MAX_LISTED: Final = 5  # differing token ids in the message
PINGS: Final = 21  # round trips of which the median is reported


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check. subject: what was checked; message: the result, or the reason and the fix."""

    subject: str
    passed: bool
    message: str


def check_llama() -> Finding:
    """Check that llama.cpp decodes and drafts on this CPU, in a child process that may die of it."""
    from services.draft_worker import proof  # another service

    outcome = proof.prove()
    if not outcome.works:
        return Finding("llama.cpp", False, proof.failure_message(outcome))
    return Finding("llama.cpp", True, f"decodes and drafts with {', '.join(sorted(outcome.used))}")


def check_model(name: str) -> Finding:
    """Check that every file of a cached model has the hash in its stamp."""
    folder = store.folder(name)
    try:
        products = [stamp.check(folder, product, full=True) for product in sorted(stamp.read(folder))]
    except ModelError as error:
        return Finding("models", False, f"{error}; `outrider models fetch {name}` fetches it again")
    files = sum(len(product.files) for product in products)
    return Finding("models", True, f"{name}: {files} files, {human_size(folder.size())}, all hashes match")


def check_vocabulary(target: Path, draft: Path) -> Finding:
    """Check that draft (a GGUF file) and target (a folder) have the same vocabulary."""
    from services.draft_worker.llama_drafter import Limits, LlamaDrafter  # a native library
    from services.draft_worker.llama_model import ModelFileError

    try:
        rows = json.loads((target / "config.json").read_text(encoding="utf-8")).get("vocab_size")
        theirs = vocabulary_of_tokenizer_json(target / "tokenizer.json", rows)
        drafter = LlamaDrafter(draft, Limits(sessions=1, kv_tokens=256))
    except (OSError, ValueError, VocabularyError, ModelFileError) as error:
        return Finding("vocabulary", False, str(error))
    ours = drafter.full_vocabulary()
    drafter.close()
    return compare(ours, theirs)


def compare(draft: Vocabulary, target: Vocabulary) -> Finding:
    """Compare two vocabularies; a failure lists the first ids that differ."""
    if draft.hash == target.hash:
        return Finding("vocabulary", True, f"{target.size} tokens, the same in draft and target")
    pairs = first_differences(draft, target, MAX_LISTED)
    words = "; ".join(f"id {(a or b or _NONE).id}: draft {_text(a)}, target {_text(b)}" for a, b in pairs)
    return Finding("vocabulary", False, f"draft and target differ: {words}")


def check_broker() -> Finding:
    """Check that the broker of the settings answers, or, where none is set, that an embedded one starts and answers."""
    return asyncio.run(_check_broker())


async def _check_broker() -> Finding:
    try:
        if is_set("BROKER_URL"):
            return await _ping(load(Common).broker_url)
    except SettingsError as error:
        return Finding("broker", False, str(error))
    try:
        async with EmbeddedBroker() as broker:
            finding = await _ping(broker.url)
    except NoServer as error:
        return Finding("broker", False, str(error))
    return Finding(finding.subject, finding.passed, f"embedded, {finding.message}")


async def _ping(url: str) -> Finding:
    """Measure the median of PINGS round trips."""
    try:
        broker = RedisBroker(url, "s0", 64)
    except ValueError as error:
        return Finding("broker", False, f"OUTRIDER_BROKER_URL={url}: {error}")
    try:
        durations_s = sorted([await broker.ping() for _ in range(PINGS)])
        return Finding("broker", True, f"{url} answers in {durations_s[PINGS // 2] * 1e3:.2f} ms")
    except BrokerAway as error:
        return Finding("broker", False, f"{url}: {error}")
    finally:
        await broker.close()


_NONE: Final = Entry(-1, b"", False)


def _text(entry: Entry | None) -> str:
    return repr(entry.text.decode("utf-8", "replace")) if entry else "nothing"
