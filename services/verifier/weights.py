"""A model folder's weights, read piece by piece, so that no more of a file is in memory than what is kept of it."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

WHOLE: Final = ("config.json", "tokenizer.json")  # read whole for a digest
SAMPLE: Final = 4096  # bytes at the start, the middle and the end of each weight file's parts
SAMPLES: Final = 64  # of one file
PIECE_BYTES: Final = 4 << 20  # of a file that are read at once
STORED: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


class ModelFileError(ValueError):
    """A model file that is missing or cannot be read; the text names it and the reason."""


class Weights:
    """The safetensors files of a folder. Names are those of a decoder: `model.` in front of them is left out."""

    def __init__(self, folder: str | Path) -> None:
        """Raises ModelFileError when there is none."""
        self.folder = Path(folder)
        self._files = sorted(self.folder.glob("*.safetensors"))
        if not self._files:
            raise ModelFileError(f"{self.folder}: no .safetensors file; a pipeline reads no other format")

    def read(self, prefix: str, dtype: torch.dtype, place: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Tensors whose names begin so, each with the rest of its name, of this type. Raises ModelFileError.

        Files are not mapped: mapped pages that were read count as memory of the process.
        """
        for path in self._files:
            for stored in _tensors_of(path):
                own = stored.name.removeprefix("model.")
                if own.startswith(prefix):
                    yield own.removeprefix(prefix), stored.load(path, dtype, place)

    def read_rows(self, name: str, rows: int, dtype: torch.dtype, place: torch.device) -> Iterator[Tensor]:
        """One tensor in pieces of so many rows; nothing when there is none. Raises ModelFileError."""
        for path in self._files:
            for stored in _tensors_of(path):
                if stored.name.removeprefix("model.") == name:
                    for begin in range(0, stored.shape[0], rows):
                        yield stored.rows(begin, min(begin + rows, stored.shape[0])).load(path, dtype, place)

    def digest(self) -> str:
        """A hash of the configuration, the tokenizer and samples of all weights: the same for the same model.

        Whole files of gigabytes would take minutes; another training changes nearly every weight.
        """
        digest = blake2b(digest_size=16)
        for name in WHOLE:
            path = self.folder / name
            digest.update(name.encode() + (path.read_bytes() if path.is_file() else b""))
        for path in self._files:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                for part in range(SAMPLES):
                    file.seek(part * max(size - SAMPLE, 0) // (SAMPLES - 1))
                    digest.update(file.read(SAMPLE))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a file has a tensor. begin: of its first byte."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    begin: int

    def rows(self, begin: int, end: int) -> "StoredTensor":
        """Some of its rows."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        return StoredTensor(self.name, (end - begin, *self.shape[1:]), self.dtype, self.begin + begin * size)

    def load(self, path: Path, dtype: torch.dtype, place: torch.device) -> Tensor:
        """Its values as this type. Raises ModelFileError."""
        whole = torch.empty(self.shape, dtype=dtype, device=place)
        values, size = whole.view(-1), self.dtype.itemsize
        buffer = bytearray(min(PIECE_BYTES, max(len(values), 1) * size))
        with path.open("rb", buffering=0) as file:
            file.seek(self.begin)
            for begin in range(0, len(values), PIECE_BYTES // size):
                part = values[begin : begin + PIECE_BYTES // size]
                view = memoryview(buffer)[: len(part) * size]
                while view:  # a system may read less at once
                    if not (read := file.readinto(view)):
                        raise ModelFileError(f"{path}: ends within {self.name}")
                    view = view[read:]
                part.copy_(torch.frombuffer(buffer, dtype=self.dtype, count=len(part)))
        return whole


def _tensors_of(path: Path) -> list[StoredTensor]:
    """The tensors of a file, in order of their names. Raises ModelFileError."""
    try:
        with safe_open(path, framework="pt"):  # it checks the header: places, types, the file's length
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: corrupt safetensors: {error}") from error
    header.pop("__metadata__", None)
    found = []
    for name, entry in sorted(header.items()):
        if entry["dtype"] not in STORED:
            raise ModelFileError(f"{path}: {name} is of type {entry['dtype']}; known are {', '.join(STORED)}")
        begin = 8 + length + entry["data_offsets"][0]
        found.append(StoredTensor(name, tuple(entry["shape"]), STORED[entry["dtype"]], begin))
    return found
