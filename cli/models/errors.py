"""What can go wrong with a model, in one line a person can act on."""

from pathlib import Path


class ModelError(RuntimeError):
    """A model cannot be had or used; the text names the file and what to do."""


class HashMismatch(ModelError):
    """A file that is not what it should be."""

    def __init__(self, file: Path | str, expected: str, found: str, hint: str = "") -> None:
        super().__init__(f"{file}: expected sha256 {expected}, found {found}{'; ' + hint if hint else ''}")
