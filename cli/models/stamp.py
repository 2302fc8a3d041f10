"""The stamp of a model's folder: recipe, library versions and file hashes of each product.

A product is a file or folder of the model: source.gguf, draft.gguf, target. It is *current* when its stamp has today's
recipe and every file matches its hash. A file whose size and modification time match the stamp counts as unchanged; any
other file is hashed.
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
class Stamp:
    """A file's size in bytes, modification time in ns and SHA-256 in hex, when it was stamped."""

    size: int
    changed_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Product:
    """A stamped product.

    recipe: how it was made, as text. versions: of the libraries. files: by path relative to the model's folder. own:
    made at the user's request, so that the manifest's recipe does not replace it.
    """

    recipe: str
    versions: Mapping[str, str]
    files: Mapping[str, Stamp]
    own: bool = False


def read(folder: Folder) -> dict[str, Product]:
    """Products by name; {} when there is no readable stamp."""
    try:
        entries = json.loads(folder.stamp.read_text(encoding="utf-8"))
        return {name: _product(entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def write(folder: Folder, name: str, recipe: str, versions: Mapping[str, str], own: bool = False) -> None:
    """Stamp a product with the hashes of its present files."""
    at = folder.path / name
    paths = sorted(path for path in at.rglob("*") if path.is_file()) if at.is_dir() else [at]
    marks = {path.relative_to(folder.path).as_posix(): mark(path) for path in paths}
    _save(folder, read(folder) | {name: Product(recipe, versions, marks, own)})


def check(folder: Folder, name: str, full: bool = False, progress: ByteProgress = no_progress) -> Product:
    """Check a product's files and return it. full: also hash unchanged files. Raises ModelError, HashMismatch."""
    product = read(folder).get(name)
    if product is None:
        raise ModelError(
            f"{folder.path / name}: {'not stamped' if (folder.path / name).exists() else 'missing'}"
        )
    for relative, stamped in product.files.items():
        path = folder.path / relative
        if not path.is_file():
            raise ModelError(f"{path}: missing")
        now = path.stat()
        if full or (now.st_size, now.st_mtime_ns) != (stamped.size, stamped.changed_ns):
            digest = sha256(path, progress)
            if digest != stamped.sha256:
                raise HashMismatch(path, stamped.sha256, digest)
    return product


def mark(path: Path) -> Stamp:
    """Mark of a file's present content."""
    stat = path.stat()
    return Stamp(stat.st_size, stat.st_mtime_ns, sha256(path))


def _save(folder: Folder, products: Mapping[str, Product]) -> None:
    text = json.dumps({name: asdict(product) for name, product in products.items()}, indent=2)
    partial = folder.stamp.with_suffix(".json.tmp")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder.stamp)


def _product(entry: dict[str, Any]) -> Product:
    files = {name: Stamp(**fields) for name, fields in entry["files"].items()}
    return Product(entry["recipe"], entry["versions"], files, entry["own"])
