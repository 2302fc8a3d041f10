"""Adds the user's own models: local files, which are linked and not copied, or hub repositories."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cli.command.errors import ModelError
from cli.command.report import Report
from cli.models import hub, prepare, stamp, store
from cli.models.manifest import DraftRecipe, TargetRecipe
from cli.models.store import Folder

DEFAULT_DRAFT: Final = DraftRecipe("source.gguf", "Q2_K")


def add_local(name: str, target: Path, draft: Path | None, dtype: str, report: Report) -> Folder:
    """Add a model of local files. target: a transformers folder, or a GGUF file that is dequantised to dtype.

    draft: a GGUF file; None = requantise the target's GGUF file. Raises ModelError for files that are not usable.
    """
    if draft is not None:
        need_gguf(draft)
    if target.is_dir():
        need_target(target)
        if draft is None:
            raise ModelError(
                f"{target}: a folder has no GGUF file to make a draft from; give one with --draft"
            )
    else:
        need_gguf(target)

    def fill(folder: Folder) -> None:
        if target.is_dir():
            link_folder(target, folder.target)
            stamp.write(folder, "target", f"added {target.resolve()}", {}, own=True)
        else:
            link(target, folder.source)
            stamp.write(folder, "source.gguf", f"added {target.resolve()}", {}, own=True)
            prepare.make_target(folder, TargetRecipe("source.gguf", dtype, 0), report, own=True)
        if draft is not None:
            link(draft, folder.draft)
            stamp.write(folder, "draft.gguf", f"added {draft.resolve()}", {}, own=True)
        else:
            prepare.make_draft(folder, DEFAULT_DRAFT, report, own=True)

    return new(name, fill, report)


def add_hub(repo: str, draft: str, report: Report) -> Folder:
    """Add a target from the hub repository ORG/NAME. draft: a local GGUF file, or ORG/NAME/FILE.gguf on the hub.

    Raises ModelError.
    """
    if not draft.endswith(".gguf"):
        raise ModelError(
            f"{repo}: needs --draft, a GGUF file of the same vocabulary (a path or ORG/NAME/FILE.gguf)"
        )

    def fill(folder: Folder) -> None:
        report.say(f"Downloading {repo} from the hub")
        hub.snapshot(repo, folder.target)
        need_target(folder.target)
        stamp.write(folder, "target", f"hub {repo}", {}, own=True)
        if Path(draft).is_file():
            link(Path(draft), folder.draft)
        else:
            report.say(f"Downloading {draft} from the hub")
            draft_repo, _, file = draft.rpartition("/")
            hub.file(draft_repo, file, store.downloads_root() / "hub").replace(folder.draft)
        need_gguf(folder.draft)
        stamp.write(folder, "draft.gguf", f"hub {draft}", {}, own=True)

    return new(repo.replace("/", "--"), fill, report)


def new(name: str, fill: Callable[[Folder], None], report: Report) -> Folder:
    """Create a model's folder and fill it; it is deleted if that fails. Raises ModelError when the name is taken."""
    folder = store.folder(name)
    with prepare.model_lock(folder, report):
        if folder.path.exists():
            raise ModelError(f"{name} exists already ({folder.path}); run `outrider models rm {name}` first")
        folder.path.mkdir(parents=True)
        try:
            fill(folder)
        except BaseException:  # also Ctrl-C: an incomplete model must not remain; raised again
            store.remove(name)
            raise
    return folder


def need_gguf(path: Path) -> None:
    """Raise ModelError unless the path is a GGUF file."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path}: not a GGUF file")


def need_target(path: Path) -> None:
    """Raise ModelError unless the folder has the files that transformers and the gateway need."""
    for name in ("config.json", "tokenizer.json"):
        if not (path / name).is_file():
            raise ModelError(f"{path}: {name} is missing")
    if not any(path.glob("*.safetensors")):
        raise ModelError(f"{path}: no *.safetensors file")


def link_folder(source: Path, into: Path) -> None:
    """Create the folder `into` with symbolic links to the files of `source`."""
    into.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            link(path, into / path.name)


def link(source: Path, at: Path) -> None:
    """Create a symbolic link `at` to a file."""
    at.symlink_to(source.resolve())
