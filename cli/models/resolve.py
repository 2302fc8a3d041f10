"""Resolves the options --target and --draft to the files that the services need."""

import re
from pathlib import Path
from typing import Final

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.models import add, stamp, store
from cli.models.store import Folder

CHECKED: Final = ("target", "draft.gguf")


def resolve(target: str, draft: str = "") -> tuple[Path, Path, str]:
    """Folder of the target, GGUF file of the draft, and the model name for clients.

    target: name of a local model, ORG/NAME on a hub (fetched if missing), a transformers folder, or a GGUF file
    (dequantised once and cached). draft: a GGUF file; "" = the model's own. Files that changed since they were stamped
    are hashed. Raises ModelError.
    """
    path = Path(target).expanduser()
    override = Path(draft).expanduser() if draft else None
    if override is not None and not (target.count("/") == 1 and not path.exists()):
        add.need_gguf(override)
    if path.is_dir() and "/" in target:
        return _plain_folder(path, override)
    if target.endswith(".gguf"):
        folder = _of_gguf(path, override)
    elif "/" in target:
        folder = store.folder(target.replace("/", "--"))
        if not folder.path.is_dir():
            folder = add.add_hub(target, draft, Report())
    else:
        folder = store.folder(target)
        if not folder.path.is_dir():
            raise ModelError(f"{target}: not in {store.models_root()}; run `outrider models fetch {target}`")
    for product in CHECKED:
        if product == "target" or override is None:
            stamp.check(folder, product)
    return folder.target, override or folder.draft, folder.name


def _plain_folder(path: Path, draft: Path | None) -> tuple[Path, Path, str]:
    add.need_target(path)
    if draft is None:
        raise ModelError(f"{path}: a folder has no draft of its own; give one with --draft FILE.gguf")
    return path, draft, path.resolve().name


def _of_gguf(path: Path, draft: Path | None) -> Folder:
    """The model made of a GGUF file; cached if it was made of the same file."""
    folder = store.folder(re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem).lstrip(".") or "model")
    if folder.path.is_dir() and folder.source.resolve() == path.resolve():
        return folder
    return add.add_local(folder.name, path, draft, "float32", Report())
