"""Writes results: checks the path before a run, and falls back to another folder if writing fails after it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

PROBE: Final = " " * 64 * 1024  # on a full disk a file can be created but not written
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  # may have room if the disk of temporary files is full


class OutputError(RuntimeError):
    """A result that cannot be written; the text names the file, the reason and what to do."""


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a file that replaces `path` once it is complete; after an error the old file stays. Raises OSError.

    Text that UTF-8 cannot encode (half a surrogate pair) is written as a backslash escape, which JSON can read.
    """
    part = _partial(path)
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some file systems report a full disk only here
        part.replace(path)
    except BaseException:  # Ctrl-C as well: no partial file stays
        part.unlink(missing_ok=True)
        raise


def check_output(out: Path, suffixes: Sequence[str] = ()) -> None:
    """Check that `out` and files with these suffixes can be written; create the folder. Raises OutputError."""
    try:
        if out.is_dir():
            raise OutputError(f"--out {out} is a folder: name a file, for example {out / 'load.json'}")
        if out.parent.exists() and not out.parent.is_dir():
            raise OutputError(f"--out {out}: {out.parent} is not a folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in (out, *(out.with_suffix(suffix) for suffix in suffixes)):
            _probe(file)
    except OSError as error:
        raise OutputError(
            f"--out {out}: {error.strerror or error}; name a file in a writable folder with free space"
        ) from None


def keep(out: Path, write: Callable[[Path], None]) -> Path:
    """Write a result by write(out), or to a temporary folder if that fails. Returns its path. Raises OutputError."""
    try:
        write(out)
        return out
    except OSError as error:
        why = error.strerror or str(error)
    for place in (tempfile.gettempdir(), SHARED_MEMORY):
        if kept := _kept_in(place, out.name, write):
            return kept
    raise OutputError(
        f"{out}: {why}; temporary folders cannot be written either, so only the result shown here remains"
    )


def _kept_in(place: str, name: str, write: Callable[[Path], None]) -> Path | None:
    """Write the result to a new folder in `place`; None if that fails."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="loadgen-", dir=place))
        write(folder / name)
        return folder / name
    except OSError:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        return None


def _probe(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise OutputError(f"--out: {file} exists and is not a file: give another name")
    part = _partial(file)
    try:
        with part.open("w", encoding="utf-8") as probe:
            probe.write(PROBE)
            probe.flush()
            os.fsync(probe.fileno())
    finally:
        part.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
