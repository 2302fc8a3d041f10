"""The cache of models on this machine: folders, sizes and hashes."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cli.command.errors import ModelError
from cli.command.sizes import ByteProgress, human_size, no_progress

CHUNK = 1 << 22


def cache_root() -> Path:
    """Folder of the cache: OUTRIDER_CACHE, by default ~/.cache/outrider."""
    return Path(os.environ.get("OUTRIDER_CACHE") or "~/.cache/outrider").expanduser()


@dataclass(frozen=True, slots=True)
class Folder:
    """Folder of a model, and the paths in it."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.path.name

    @property
    def source(self) -> Path:
        """GGUF file that target and draft are made from; an added model may have none."""
        return self.path / "source.gguf"

    @property
    def draft(self) -> Path:
        """GGUF file of the draft model, for llama.cpp."""
        return self.path / "draft.gguf"

    @property
    def target(self) -> Path:
        """Folder of the target for transformers: config, tokenizer, safetensors."""
        return self.path / "target"

    @property
    def stamp(self) -> Path:
        """File with recipes and hashes of the products (cli/models/stamp.py)."""
        return self.path / "stamp.json"

    def files(self) -> list[Path]:
        """All files except the stamp, including links to files, sorted."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(path for path in files if path.name != "stamp.json")

    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(path.stat().st_size for path in self.files())


def models_root() -> Path:
    """Folder of all models."""
    return cache_root() / "models"


def downloads_root() -> Path:
    """Folder of downloaded wheels, which are deleted when the file made of them is complete."""
    return cache_root() / "downloads"


def folder(name: str) -> Folder:
    """Folder of a model, whether or not it exists. Raises ModelError for an invalid name."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ModelError(f"{name!r}: not a model name (no slashes, no leading dot)")
    return Folder(models_root() / name)


def present() -> list[Folder]:
    """Folders of all local models, sorted by name."""
    root = models_root()
    if not root.is_dir():
        return []
    return [
        Folder(path) for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")
    ]


def remove(name: str) -> int:
    """Delete a model and return the bytes freed. Links are deleted, their targets are not. Raises ModelError."""
    at = folder(name)
    if not at.path.is_dir():
        raise ModelError(f"{name}: no such model in {models_root()}")
    freed = sum(path.stat().st_size for path in at.files() if not path.is_symlink())
    shutil.rmtree(at.path)
    return freed


def sha256(path: Path, progress: ByteProgress = no_progress) -> str:
    """SHA-256 of a file in hex. progress: gets the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def need_space(where: Path, size: int) -> None:
    """Raise ModelError when the disk of the path `where` has less than `size` bytes free."""
    at = where
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if free < size:
        raise ModelError(f"{where}: {human_size(size)} needed, {human_size(free)} free")
