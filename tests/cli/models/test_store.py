"""The cache: paths, sizes, removal."""

from pathlib import Path

import pytest

from cli.command.errors import ModelError
from cli.command.sizes import human_size
from cli.models import store


def test_paths_lie_under_the_cache(cache: Path) -> None:
    at = store.folder("smollm2")
    assert at.path == cache / "models" / "smollm2"
    assert (at.source, at.draft, at.target) == (
        at.path / "source.gguf",
        at.path / "draft.gguf",
        at.path / "target",
    )
    assert store.downloads_root() == cache / "downloads"


def test_default_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_CACHE", "")
    assert store.cache_root() == Path.home() / ".cache" / "outrider"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a\\b"])
def test_names_that_would_leave_the_cache_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="not a model name"):
        store.folder(name)


def test_sizes_and_removal(tmp_path: Path) -> None:
    outside = tmp_path / "weights"
    outside.write_bytes(b"x" * 1000)
    at = store.folder("mine")
    at.target.mkdir(parents=True)
    (at.target / "model.safetensors").symlink_to(outside)
    at.draft.write_bytes(b"y" * 50)
    assert [found.name for found in store.present()] == ["mine"]
    assert at.size() == 1050
    assert store.remove("mine") == 50
    assert outside.exists()
    assert store.present() == []
    with pytest.raises(ModelError, match="mine: no such model"):
        store.remove("mine")


def test_too_little_disk_is_said_in_gigabytes(tmp_path: Path) -> None:
    store.need_space(tmp_path / "not" / "there", 1)
    with pytest.raises(ModelError, match=r"there: 1000000000\.0 GB needed, [0-9.]+ GB free"):
        store.need_space(tmp_path / "not" / "there", 10**18)


@pytest.mark.parametrize(("size", "text"), [(500, "0 kB"), (98_362_432, "98 MB"), (1_117_320_768, "1.1 GB")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert human_size(size) == text
