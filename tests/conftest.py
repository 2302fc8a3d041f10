"""Fixtures for all tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from shared.broker.embedded import HOST
from tests.broker_server import ask, served

settings.register_profile("any machine", deadline=None)  # an example takes as long as the machine is slow
settings.load_profile("any machine")
if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads would wait for each other beside other tests
    os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.disable()  # until all tests are collected: nearly all that imports make stays


def pytest_collection_finish() -> None:
    """From here on the garbage collector looks at what tests make, not at a million objects of modules."""
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command or a scenario may silence the log of its process, which later tests read."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of the demo model: source.gguf, draft.gguf, target/. Fails, never skips, when it is missing."""
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    folder = cache / "models" / "smollm2"
    if not (folder / "target" / "model.safetensors").is_file():
        pytest.fail(f"{folder}: demo model missing; run `make models` first")
    return folder


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """Port of a Valkey server that runs for the whole test session."""
    with served() as port:
        yield port


@pytest.fixture
def redis_url(redis_port: int) -> str:
    """Address of an empty broker."""
    assert ask(redis_port, b"FLUSHALL").startswith(b"+OK")
    return f"redis://{HOST}:{redis_port}/0"
