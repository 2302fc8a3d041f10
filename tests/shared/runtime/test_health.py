"""Health pages: readiness with its reason, and the stack's id."""

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from shared.runtime.health import STACK_HEADER, HealthServer
from shared.runtime.settings import SettingsError

HOST = "127.0.0.1"


@pytest.mark.parametrize("stack", ["", "abc123"])
async def test_every_page_says_to_which_stack_it_belongs(stack: str) -> None:
    reasons: list[str | None] = ["starting", None]
    health = HealthServer(HOST, 0, CollectorRegistry(), lambda: reasons.pop(0), stack)
    async with health, aiohttp.ClientSession(f"http://{HOST}:{health.port}") as session:
        found = []
        for page in ("/readyz", "/readyz", "/healthz", "/metrics", "/nothing"):
            async with session.get(page) as response:
                assert response.headers.get(STACK_HEADER, "") == stack
                found.append((response.status, (await response.text()).strip()))
    assert found[:2] == [(503, "starting"), (200, "ready")]
    assert [status for status, _ in found[2:]] == [200, 200, 404]


async def test_a_port_that_cannot_be_had_is_a_setting_to_change() -> None:
    async with HealthServer(HOST, 0, CollectorRegistry(), lambda: None) as health:
        with pytest.raises(SettingsError, match=f"OUTRIDER_HEALTH_PORT={health.port}: "):
            async with HealthServer(HOST, health.port, CollectorRegistry(), lambda: None):
                pass
