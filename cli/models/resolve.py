"""From what a user types after --target and --draft to the files the services are given."""

import re
from pathlib import Path
from typing import Final

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.models import add, stamp, store
from cli.models.store import Folder

CHECKED: Final = ("target", "draft.gguf")


def resolve(target: str, draft: str = "") -> tuple[Path, Path, str]:
    """(folder of the target, GGUF file of the draft, name clients use).

    target: a model here by name, a hub's ORG/NAME (fetched if it is not here), a transformers folder or a
    GGUF file (dequantised once, kept in the cache). draft: a GGUF file; empty = the model's own. Files that
    changed since they were stamped are hashed again. Raises ModelError.
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
            raise ModelError(
                f"{target}: not in {store.models_root()}; `outrider models fetch {target}` brings it"
            )
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
    """The model made of a GGUF file, from the cache if it was made of this very file."""
    folder = store.folder(re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem).lstrip(".") or "model")
    if folder.path.is_dir() and folder.source.resolve() == path.resolve():
        return folder
    return add.add_local(folder.name, path, draft, "float32", Report())
