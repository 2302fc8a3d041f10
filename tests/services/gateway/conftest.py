"""Fixtures of the gateway's tests."""

import pytest

from services.gateway import in_flight


@pytest.fixture(autouse=True)
def _clients_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that ends gives clients less time for a next request."""
    monkeypatch.setattr(in_flight, "IDLE_S", 0.1)
