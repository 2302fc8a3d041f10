"""Processes of remote devices end with their test, also with one that fails or runs into its time limit."""

from collections.abc import Iterator

import pytest

from tests.integration.joining import Machine


@pytest.fixture(autouse=True)
def _machines_end() -> Iterator[None]:
    yield
    while Machine.started:
        Machine.started.pop().kill()
