"""Stamps: changed, damaged and outdated products are found; unchanged ones are not hashed."""

import os
from pathlib import Path

import pytest

from cli.command.errors import HashMismatch, ModelError
from cli.models import stamp, store
from cli.models.store import Folder


@pytest.fixture
def folder() -> Folder:
    at = store.folder("tiny")
    at.target.mkdir(parents=True)
    (at.target / "config.json").write_text("{}")
    (at.target / "model.safetensors").write_bytes(b"weights")
    at.draft.write_bytes(b"GGUF draft")
    stamp.write(at, "target", "by hand", {"torch": "2.13.0"})
    stamp.write(at, "draft.gguf", "by hand", {})
    return at


def hashed(folder: Folder, name: str, full: bool = False) -> int:
    """Bytes that a check hashes."""
    done: list[int] = []
    stamp.check(folder, name, full, done.append)
    return sum(done)


def test_untouched_files_are_not_hashed_again(folder: Folder) -> None:
    assert hashed(folder, "target") == 0
    assert hashed(folder, "target", full=True) == len(b"{}weights")
    assert stamp.check(folder, "target").versions == {"torch": "2.13.0"}


def test_a_touched_file_is_hashed_and_passes(folder: Folder) -> None:
    os.utime(folder.draft, ns=(1, 1))
    assert hashed(folder, "draft.gguf") == len(b"GGUF draft")


def test_a_changed_file_is_named_with_both_hashes(folder: Folder) -> None:
    was = store.sha256(folder.draft)
    folder.draft.write_bytes(b"GGUF drafT")
    os.utime(folder.draft, ns=(1, 1))
    now = store.sha256(folder.draft)
    with pytest.raises(HashMismatch, match=f"draft.gguf: expected sha256 {was}, found {now}"):
        stamp.check(folder, "draft.gguf")
    stamp.check(folder, "target")


def test_silent_damage_is_found_by_a_full_check(folder: Folder) -> None:
    weights = folder.target / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"weighTs")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    stamp.check(folder, "target")
    with pytest.raises(HashMismatch, match=r"model\.safetensors"):
        stamp.check(folder, "target", full=True)


def test_missing_file_and_missing_stamp(folder: Folder) -> None:
    (folder.target / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: missing"):
        stamp.check(folder, "target")
    folder.source.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"source\.gguf: not stamped"):
        stamp.check(folder, "source.gguf")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"target": 3}', '{"target": {"files": {"a": {"size": 1}}}}']
)
def test_a_broken_stamp_is_none(folder: Folder, text: str) -> None:
    folder.stamp.write_text(text)
    assert stamp.read(folder) == {}


def test_stamping_one_product_keeps_the_other(folder: Folder) -> None:
    stamp.write(folder, "draft.gguf", "again", {}, own=True)
    products = stamp.read(folder)
    assert (products["draft.gguf"].recipe, products["draft.gguf"].own) == ("again", True)
    assert products["target"].recipe == "by hand"
    assert sorted(products["target"].files) == ["target/config.json", "target/model.safetensors"]
    assert not list(Path(folder.path).glob("*.tmp"))
