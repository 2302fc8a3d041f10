"""What must work before anything is measured: llama.cpp, models, vocabularies, a broker. Each is a Finding."""

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

SHOWN: Final = 5  # ids in the message
PINGS: Final = 21


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, and in words."""

    what: str
    well: bool
    words: str


def check_llama() -> Finding:
    """Llama.cpp decodes and drafts on this CPU, tried in a process of its own."""
    from services.draft_worker import proof  # another service

    found = proof.prove()
    if not found.works:
        return Finding("llama.cpp", False, proof.failure_message(found))
    return Finding("llama.cpp", True, f"decodes and drafts here, with {', '.join(sorted(found.used))}")


def check_model(name: str) -> Finding:
    """Every file of a model in the cache hashes to what its stamp says."""
    folder = store.folder(name)
    try:
        products = [stamp.check(folder, product, full=True) for product in sorted(stamp.read(folder))]
    except ModelError as error:
        return Finding("models", False, f"{error}; `outrider models fetch {name}` mends it")
    files = sum(len(product.files) for product in products)
    return Finding("models", True, f"{name}: {files} files, {human_size(folder.size())}, all hashes right")


def check_vocabulary(target: Path, draft: Path) -> Finding:
    """Both models mean the same token by every id."""
    from services.draft_worker.llama_drafter import (  # a native library
        Limits,
        LlamaDrafter,
        ModelFileError,
    )

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
    """The finding on two vocabularies."""
    if draft.hash == target.hash:
        return Finding("vocabulary", True, f"{target.size} tokens, the same in draft and target")
    pairs = first_differences(draft, target, SHOWN)
    words = "; ".join(f"id {(a or b or _NONE).id}: draft {_text(a)}, target {_text(b)}" for a, b in pairs)
    return Finding("vocabulary", False, f"draft and target differ: {words}")


def check_broker() -> Finding:
    """The broker of the settings answers; where none is set, the embedded one starts and answers."""
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
    return Finding(finding.what, finding.well, f"embedded, {finding.words}")


async def _ping(url: str) -> Finding:
    """Median of a few round trips."""
    try:
        broker = RedisBroker(url, "s0", 64)
    except ValueError as error:
        return Finding("broker", False, f"OUTRIDER_BROKER_URL={url}: {error}")
    try:
        took = sorted([await broker.ping() for _ in range(PINGS)])
        return Finding("broker", True, f"{url} answers in {took[PINGS // 2] * 1e3:.2f} ms")
    except BrokerAway as error:
        return Finding("broker", False, f"{url}: {error}")
    finally:
        await broker.close()


_NONE: Final = Entry(-1, b"", False)


def _text(entry: Entry | None) -> str:
    return repr(entry.text.decode("utf-8", "replace")) if entry else "nothing"
