"""Files of `NAME=value` lines, such as `.env`: which names one sets, and on which lines.

The values are read by pydantic-settings with the same parser; it passes over what it cannot read, so this is refused
here.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

ENCODING: Final = "utf-8-sig"  # UTF-8, with or without the mark that some editors put first


class EnvFileError(ValueError):
    """A file that cannot be read as a whole; the text names it, the line and the fix."""


def names_in(path: Path) -> dict[str, int]:
    """Line by name, as they are written; {} when there is no such file. Raises EnvFileError."""
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
            raise EnvFileError(f"{path}, line {_line(binding)}: cannot be read; wanted is NAME=value")
        if binding.key is not None:
            if binding.value is None:
                raise EnvFileError(
                    f"{path}, line {_line(binding)}: {binding.key} has no value; wanted is NAME=value"
                )
            yield binding.key, _line(binding)


def _line(binding: Binding) -> int:
    """Where it begins, blank lines before it passed over."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
