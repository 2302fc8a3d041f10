"""Fixtures every test may use."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.broker.embedded import HOST, free_port, server_argv


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of the demo model: source.gguf, draft.gguf, target/. Fails, never skips, when it is missing."""
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    folder = cache / "models" / "smollm2"
    if not (folder / "target" / "model.safetensors").is_file():
        pytest.fail(f"{folder}: demo model missing; run `make models` first")
    return folder


def _ask(port: int, command: bytes) -> bytes:
    with closing(socket.create_connection((HOST, port), timeout=5)) as connection:
        connection.sendall(command + b"\r\n")
        return connection.recv(64)


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    """Port of a Valkey server that runs as long as the tests do."""
    port = free_port()
    server = subprocess.Popen(server_argv(HOST, port), stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                if _ask(port, b"PING").startswith(b"+PONG"):
                    break
            except OSError:
                time.sleep(0.05)
        else:
            pytest.fail("the embedded broker does not answer")
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def redis_url(redis_port: int) -> str:
    """Address of an empty broker."""
    assert _ask(redis_port, b"FLUSHALL").startswith(b"+OK")
    return f"redis://{HOST}:{redis_port}/0"
