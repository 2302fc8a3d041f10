"""The stamp of a model's folder: which recipe made each product, with which versions, and what it hashes to.

A product is a file or folder of the model: source.gguf, draft.gguf, target. It is *current* when the stamp
names the recipe that is wanted and every file is as the stamp says. A file with the size and change time it
had when stamped is taken as unchanged; any other is hashed, so a damaged or replaced file is found.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.command.errors import HashMismatch, ModelError
from cli.command.sizes import ByteProgress, no_progress
from cli.models.store import Folder, sha256


@dataclass(frozen=True, slots=True)
class Mark:
    """One file as it was when stamped."""

    size: int
    changed_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Product:
    """recipe: what made it, in words; own: asked for by the user, so not to be replaced by the manifest's."""

    recipe: str
    versions: Mapping[str, str]
    files: Mapping[str, Mark]
    own: bool = False


def read(folder: Folder) -> dict[str, Product]:
    """Products by name; empty without a stamp or with one that cannot be read."""
    try:
        entries = json.loads(folder.stamp.read_text(encoding="utf-8"))
        return {name: _product(entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write(folder: Folder, name: str, recipe: str, versions: Mapping[str, str], own: bool = False) -> None:
    """Stamp a product as it lies there now."""
    at = folder.path / name
    paths = sorted(path for path in at.rglob("*") if path.is_file()) if at.is_dir() else [at]
    marks = {path.relative_to(folder.path).as_posix(): mark(path) for path in paths}
    _save(folder, read(folder) | {name: Product(recipe, versions, marks, own)})


def check(folder: Folder, name: str, full: bool = False, progress: ByteProgress = no_progress) -> Product:
    """The product, whole. full: hash every file, changed or not. Raises ModelError that says what is wrong."""
    product = read(folder).get(name)
    if product is None:
        raise ModelError(
            f"{folder.path / name}: {'not stamped' if (folder.path / name).exists() else 'missing'}"
        )
    for relative, was in product.files.items():
        path = folder.path / relative
        if not path.is_file():
            raise ModelError(f"{path}: missing")
        now = path.stat()
        if full or (now.st_size, now.st_mtime_ns) != (was.size, was.changed_ns):
            found = sha256(path, progress)
            if found != was.sha256:
                raise HashMismatch(path, was.sha256, found)
    return product


def mark(path: Path) -> Mark:
    """A file as it is now."""
    stat = path.stat()
    return Mark(stat.st_size, stat.st_mtime_ns, sha256(path))


def _save(folder: Folder, products: Mapping[str, Product]) -> None:
    text = json.dumps({name: asdict(product) for name, product in products.items()}, indent=2)
    partial = folder.stamp.with_suffix(".json.tmp")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder.stamp)


def _product(entry: dict[str, Any]) -> Product:
    files = {name: Mark(**fields) for name, fields in entry["files"].items()}
    return Product(entry["recipe"], entry["versions"], files, entry["own"])
