"""The real draft and target models, loaded in this process as services load them."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.calibrate.drafting import SESSIONS
from cli.calibrate.grid import Grid
from cli.command.errors import CommandError
from shared.compute.drafter import Drafter
from shared.compute.target import TargetModel
from shared.runtime.settings import SettingsError, VerifierSettings, load

DRAFT_KV_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class CalibratedModel:
    """The models, and how the verifier runs the target. pool_tokens: KV tokens of a deployment."""

    name: str
    folder: Path
    draft: Path
    device: str
    dtype: str
    threads: int
    layers: int
    hidden: int
    feed_forward: int
    kv_bytes: int  # of one cached token
    pool_tokens: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of loaded models."""

    model: CalibratedModel
    target: TargetModel
    drafter: Drafter


def settings(dtype: str = "auto", device: str = "auto", threads: int = 0) -> VerifierSettings:
    """The verifier's settings of a deployment here, with these changes. Raises CommandError."""
    try:
        return load(VerifierSettings, dtype=dtype, device=device, verifier_threads=threads)
    except SettingsError as error:
        raise CommandError(str(error)) from None


@contextmanager
def loaded(name: str, folder: Path, draft: Path, verifier: VerifierSettings, grid: Grid) -> Iterator[Pair]:
    """Load both models, the target with the cache of a deployment; close them at the end. Raises CommandError."""
    _check_room(verifier, grid)
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when transformers is first loaded
    import torch  # heavy, like the next imports

    from services.draft_worker import llama_drafter, llama_model
    from services.verifier import families, loading, weights

    if verifier.device == "cuda" and not torch.cuda.is_available():
        raise CommandError("--device cuda: torch sees no GPU here; --device cpu measures the processor")
    before = torch.get_num_threads()
    try:
        limits = llama_drafter.Limits(sessions=max(SESSIONS), kv_tokens=DRAFT_KV_TOKENS)
        drafter = llama_drafter.LlamaDrafter(draft, limits, threads=1)
        target = loading.load_target(
            str(folder),
            dtype=verifier.dtype,
            device=verifier.device,
            kv_tokens=verifier.kv_tokens,
            page_tokens=verifier.page_tokens,
            prefix_sharing=False,
            max_context=verifier.max_context,
        )
        layers, hidden, feed_forward = _sizes(folder)
    except (llama_model.ModelFileError, weights.ModelFileError, families.UnsupportedModel) as error:
        raise CommandError(str(error)) from None
    if verifier.verifier_threads:
        target.set_threads(verifier.verifier_threads)
    model = CalibratedModel(
        name=name,
        folder=folder,
        draft=draft,
        device=target.device,
        dtype=target.dtype,
        threads=torch.get_num_threads(),
        layers=layers,
        hidden=hidden,
        feed_forward=feed_forward,
        kv_bytes=target.kv_bytes,
        pool_tokens=verifier.kv_tokens // verifier.page_tokens * verifier.page_tokens,
    )
    try:
        yield Pair(model, target, drafter)
    finally:
        drafter.close()
        target.set_threads(before)


def _check_room(verifier: VerifierSettings, grid: Grid) -> None:
    """Raise CommandError when the cache cannot hold all sessions of the grid at once."""
    needed = grid.kv_tokens(verifier.page_tokens)
    if grid.longest > verifier.max_context:
        raise CommandError(
            f"--contexts and --lengths: {grid.longest} tokens together, OUTRIDER_MAX_CONTEXT is "
            f"{verifier.max_context}; measure shorter ones or raise it"
        )
    if needed > verifier.kv_tokens:
        raise CommandError(
            f"--widths, --lengths and --contexts: need {needed} KV tokens, OUTRIDER_KV_TOKENS is "
            f"{verifier.kv_tokens}; measure smaller ones or raise it"
        )


def _sizes(folder: Path) -> tuple[int, int, int]:
    """(layers, hidden size, feed-forward size) of the configuration. Raises CommandError."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"{file}: does not contain the model's sizes: {error}") from None
