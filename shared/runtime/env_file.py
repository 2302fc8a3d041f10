"""Files of `NAME=value` lines, such as `.env`: the names that a file sets, and their lines.

pydantic-settings reads the values with the same parser but skips lines that it cannot read; they are refused here.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

ENCODING: Final = "utf-8-sig"  # UTF-8, with or without a byte order mark


class EnvFileError(ValueError):
    """A file with an unreadable part; the text names the file, the line and the fix."""


def names_in(path: Path) -> dict[str, int]:
    """Line numbers by name, as spelt in the file; {} when there is no such file. Raises EnvFileError."""
    if not path.is_file():
        return {}
    return dict(_names(path, _text(path)))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise EnvFileError(f"{path}: {error.strerror}") from None
    try:
        return raw.decode(ENCODING)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise EnvFileError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _names(path: Path, text: str) -> Iterator[tuple[str, int]]:
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise EnvFileError(f"{path}, line {_line(binding)}: cannot be read; write NAME=value")
        if binding.key is not None:
            if binding.value is None:
                raise EnvFileError(
                    f"{path}, line {_line(binding)}: {binding.key} has no value; write NAME=value"
                )
            yield binding.key, _line(binding)


def _line(binding: Binding) -> int:
    """The line where a binding begins, after blank lines."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
