"""Where models lie on this machine, what they weigh, and whether they are whole."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cli.command.errors import ModelError
from cli.command.sizes import ByteProgress, human_size, no_progress

CHUNK = 1 << 22


def cache_root() -> Path:
    """OUTRIDER_CACHE, by default ~/.cache/outrider."""
    return Path(os.environ.get("OUTRIDER_CACHE") or "~/.cache/outrider").expanduser()


@dataclass(frozen=True, slots=True)
class Folder:
    """A model's folder."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def source(self) -> Path:
        """The GGUF that target and draft are made from; may be missing for an added model."""
        return self.path / "source.gguf"

    @property
    def draft(self) -> Path:
        """The draft model, for llama.cpp."""
        return self.path / "draft.gguf"

    @property
    def target(self) -> Path:
        """Folder of the target: config, tokenizer, safetensors."""
        return self.path / "target"

    @property
    def stamp(self) -> Path:
        """What was made here and what it hashes to."""
        return self.path / "stamp.json"

    def files(self) -> list[Path]:
        """Every file but the stamp, links to files included, sorted."""
        found = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(path for path in found if path.name != "stamp.json")

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files())


def models_root() -> Path:
    """Folder of all models."""
    return cache_root() / "models"


def downloads_root() -> Path:
    """Folder of wheels on their way in; emptied when a file is whole."""
    return cache_root() / "downloads"


def folder(name: str) -> Folder:
    """Folder of a model, whether or not it exists. Raises ModelError for a name that is no plain name."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ModelError(f"{name!r}: not a model name (no slashes, no leading dot)")
    return Folder(models_root() / name)


def present() -> list[Folder]:
    """Folders of all models here, sorted by name."""
    root = models_root()
    if not root.is_dir():
        return []
    return [
        Folder(path) for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")
    ]


def remove(name: str) -> int:
    """Delete a model; bytes freed. Links are removed, what they point at stays. Raises ModelError if absent."""
    at = folder(name)
    if not at.path.is_dir():
        raise ModelError(f"{name}: no such model in {models_root()}")
    freed = sum(path.stat().st_size for path in at.files() if not path.is_symlink())
    shutil.rmtree(at.path)
    return freed


def sha256(path: Path, progress: ByteProgress = no_progress) -> str:
    """Hash of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def need_space(where: Path, size: int) -> None:
    """Raises ModelError when the disk under `where` has less than `size` bytes left."""
    at = where
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if free < size:
        raise ModelError(f"{where}: {human_size(size)} needed, {human_size(free)} free")
