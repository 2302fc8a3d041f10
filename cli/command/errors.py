"""Errors that a person at the command line can act on. Each is shown as one line, without a traceback."""

from pathlib import Path


class CommandError(RuntimeError):
    """A command cannot go on; the text says what to do."""


class ProcessFailed(RuntimeError):
    """A process ended in a way that restarting does not mend; the text holds its last words."""


class ModelError(CommandError):
    """A model cannot be fetched, made or used; the text names the file and what to do."""


class HashMismatch(ModelError):
    """A file has another hash than expected."""

    def __init__(self, file: Path | str, expected: str, found: str, hint: str = "") -> None:
        super().__init__(f"{file}: expected sha256 {expected}, found {found}{'; ' + hint if hint else ''}")
