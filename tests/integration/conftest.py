"""Ends the remote devices' processes after each test, also after one that failed or timed out."""

from collections.abc import Iterator

import pytest

from tests.integration.joining import Machine


@pytest.fixture(autouse=True)
def _machines_end() -> Iterator[None]:
    yield
    while Machine.started:
        Machine.started.pop().kill()
