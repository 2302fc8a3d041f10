"""What must be there before anything is measured: models, vocabularies, a broker. Each check is a Finding."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.models import stamp, store
from services.models.errors import ModelError
from shared.broker.contract import BrokerAway
from shared.broker.redis_broker import RedisBroker
from shared.protocol.vocabulary import (
    Entry,
    Vocabulary,
    VocabularyError,
    first_differences,
    vocabulary_of_tokenizer_json,
)
from shared.runtime.settings import Common, SettingsError, load

SHOWN: Final = 5  # ids in the message
HOST: Final = "127.0.0.1"
START_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, and in words."""

    what: str
    well: bool
    words: str


def check_model(name: str) -> Finding:
    """Every file of a model in the cache hashes to what its stamp says."""
    folder = store.folder(name)
    try:
        products = [stamp.check(folder, product, full=True) for product in sorted(stamp.read(folder))]
    except ModelError as error:
        return Finding("models", False, f"{error}; `outrider models fetch {name}` mends it")
    files = sum(len(product.files) for product in products)
    return Finding("models", True, f"{name}: {files} files, {store.human(folder.size())}, all hashes right")


def check_vocabulary(target: Path, draft: Path) -> Finding:
    """Both models mean the same token by every id."""
    from services.draft_worker.llama_drafter import (  # noqa: PLC0415  # a native library
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


def check_broker(argv: Callable[[str, int], list[str]]) -> Finding:
    """The broker of the settings answers; without one, the embedded one starts. argv: how it is started."""
    return asyncio.run(_check_broker(argv))


async def _check_broker(argv: Callable[[str, int], list[str]]) -> Finding:
    if "OUTRIDER_BROKER_URL" in os.environ or _in_env_file("OUTRIDER_BROKER_URL"):
        try:
            url = load(Common).broker_url
        except SettingsError as error:
            return Finding("broker", False, str(error))
        return await _ping(url, url, tries_s=0.0)
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        *argv(HOST, port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        return await _ping(f"redis://{HOST}:{port}/0", "embedded broker", tries_s=START_S)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ping(url: str, name: str, tries_s: float) -> Finding:
    loop = asyncio.get_running_loop()
    until = loop.time() + tries_s
    try:
        broker = RedisBroker(url, "s0", 64)
    except ValueError as error:
        return Finding("broker", False, f"OUTRIDER_BROKER_URL={url}: {error}")
    try:
        while True:
            try:
                took = [await broker.ping() for _ in range(20)]
                return Finding("broker", True, f"{name} answers in {sorted(took)[10] * 1e3:.2f} ms")
            except BrokerAway as error:
                if loop.time() >= until:
                    return Finding("broker", False, f"{name}: {error}")
            await asyncio.sleep(0.1)
    finally:
        await broker.close()


def _in_env_file(name: str) -> bool:
    file = Path(".env")
    return file.is_file() and any(line.startswith(name + "=") for line in file.read_text().splitlines())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


_NONE: Final = Entry(-1, b"", False)


def _text(entry: Entry | None) -> str:
    return repr(entry.text.decode("utf-8", "replace")) if entry else "nothing"
