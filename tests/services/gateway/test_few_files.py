"""A gateway with few open files, and clients that connect and send nothing."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from services.gateway.gateway import MIN_CONNECTIONS, OTHER_FILES, connection_room
from shared.broker.embedded import free_port
from shared.runtime.settings import SettingsError

ROOT = Path(__file__).resolve().parents[3]
FILES = 128
LIMITED = (
    f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); "
    "runpy.run_module('services.gateway', run_name='__main__')"
)


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.slow
def test_two_hundred_connections_that_send_nothing_keep_nobody_out() -> None:
    port, health = free_port(), free_port()
    settings = {
        "OUTRIDER_PORT": str(port),
        "OUTRIDER_HEALTH_PORT": str(health),
        "OUTRIDER_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "PYTHONPATH": str(ROOT),
    }
    server = subprocess.Popen(
        [sys.executable, "-c", LIMITED], env=os.environ | settings, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and server.poll() is None:
            with suppress(OSError):
                if get(health, "/healthz")[0] == 200:
                    break
            time.sleep(0.05)
        with ExitStack() as stack:
            for n in range(200):
                for to in (port, health):
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", to), timeout=10))
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" if n % 2 else b"")
            for _ in range(3):
                status, body = get(port, "/health")
                assert (status, json.loads(body)) == (503, {"status": "the broker is away"})
                assert get(health, "/healthz")[0] == 200
            shown = re.search(
                r"^outrider_gateway_connections (\S+)", get(health, "/metrics")[1], re.MULTILINE
            )
            assert shown is not None
            assert FILES - OTHER_FILES - 3 <= float(shown[1]) <= FILES - OTHER_FILES
    finally:
        server.terminate()
        assert server.wait(30) == 0


def test_room_for_health_pages_and_broker_is_kept() -> None:
    assert connection_room(4096, 1024) == 1024 - OTHER_FILES
    assert connection_room(100, 1024) == 100
    with pytest.raises(SettingsError, match=r"only 64 files may be open \(ulimit -n\)"):
        connection_room(100, 64)
    assert connection_room(100, OTHER_FILES + MIN_CONNECTIONS) == MIN_CONNECTIONS


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    code = (
        "import resource; from shared.runtime.open_files import open_files, raise_open_files; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); "
        "print(open_files(), raise_open_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100", "300", "300"]
