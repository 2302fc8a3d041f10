"""A model folder's weights, read tensor by tensor."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

WHOLE: Final = ("config.json", "tokenizer.json")  # read whole for a digest
SAMPLE: Final = 4096  # bytes at the start, the middle and the end of each weight file's parts
SAMPLES: Final = 64  # of one file


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

    def read(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """Tensors whose names begin so, each with the rest of its name. Raises ModelFileError.

        A file is mapped anew for every call: mapped pages that were read count as memory until it is closed.
        """
        for path in self._files:
            with self._open(path) as tensors:
                for name in tensors.keys():  # noqa: SIM118  # not a dictionary
                    own = name.removeprefix("model.")
                    if own.startswith(prefix):
                        yield own.removeprefix(prefix), tensors.get_tensor(name)

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

    def _open(self, path: Path) -> Any:
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{path}: corrupt safetensors: {error}") from error
