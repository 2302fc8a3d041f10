"""Errors that the user of the command line can act on. Each is shown as one line, without a traceback."""

from pathlib import Path


class CommandError(RuntimeError):
    """A command cannot continue; the text says what to do."""


class ProcessFailed(RuntimeError):
    """A process ended and restarting it does not help; the text has the end of its log."""


class ModelError(CommandError):
    """A model cannot be fetched, made or used; the text names the file and the fix."""


class HashMismatch(ModelError):
    """A file does not have the expected hash. expected, actual: SHA-256 in hex."""

    def __init__(self, file: Path | str, expected: str, actual: str, hint: str = "") -> None:
        super().__init__(f"{file}: expected sha256 {expected}, found {actual}{'; ' + hint if hint else ''}")
