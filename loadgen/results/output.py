"""Writes results: checks the path before a run, and falls back to another folder if writing fails after it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

PROOF: Final = " " * 64 * 1024  # on a full disk a file can be made, but nothing written to it
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  # has room where the disk of the temporary files is the full one


class OutputError(RuntimeError):
    """A result that cannot be written where it was to go; the text names the file, the reason and what to do."""


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file that becomes `path` when all of it is written; an error leaves what was there. Raises OSError.

    Text that no UTF-8 can hold (half a surrogate pair) is written as a backslash escape, which JSON reads again.
    """
    part = _part(path)
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some file systems find only now that they are full
        part.replace(path)
    except BaseException:  # Ctrl-C as well: no half-written file stays behind; raised again
        part.unlink(missing_ok=True)
        raise


def check_output(out: Path, suffixes: Sequence[str] = ()) -> None:
    """Prove that `out`, and files of these suffixes beside it, can be written; make its folder. Raises OutputError."""
    try:
        if out.is_dir():
            raise OutputError(f"--out {out} is a folder: name a file, for example {out / 'load.json'}")
        if out.parent.exists() and not out.parent.is_dir():
            raise OutputError(f"--out {out}: {out.parent} is no folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in (out, *(out.with_suffix(suffix) for suffix in suffixes)):
            _prove(file)
    except OSError as error:
        raise OutputError(
            f"--out {out}: {error.strerror or error}; name a file in a folder with room that you may write to"
        ) from None


def keep(out: Path, write: Callable[[Path], None]) -> Path:
    """Have write(out) write a result, or the same elsewhere if that fails. Returns where it is. Raises OutputError."""
    try:
        write(out)
        return out
    except OSError as error:
        why = error.strerror or str(error)
    for place in (tempfile.gettempdir(), SHARED_MEMORY):
        if kept := _kept_in(place, out.name, write):
            return kept
    raise OutputError(
        f"{out}: {why}; nowhere else either, so what is shown here is all there is of the result"
    )


def _kept_in(place: str, name: str, write: Callable[[Path], None]) -> Path | None:
    """A new folder in `place` with the result in it; None where there is no room."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="loadgen-", dir=place))
        write(folder / name)
        return folder / name
    except OSError:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        return None


def _prove(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise OutputError(f"--out: {file} is there and is no file: give another name")
    part = _part(file)
    try:
        with part.open("w", encoding="utf-8") as proof:
            proof.write(PROOF)
            proof.flush()
            os.fsync(proof.fileno())
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
