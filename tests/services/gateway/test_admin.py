"""The admin API (policy, status, keys), draining and metrics."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.services.gateway.reading import TEXT, stream, text_of
from tests.services.gateway.stack import KEYS, MODEL, running_stack, until
from tests.services.gateway.tokenizers_for_tests import byte_bpe


async def test_the_policy_is_changed_and_shown() -> None:
    async with running_stack() as stack:
        status, body = await stack.post("/admin/policy", policy="cyclic-k", k=6)
        assert (status, body["applied"], body["policy"], body["k"]) == (200, True, "cyclic-k", 6)
        assert (stack.core.controls[0].policy, stack.core.controls[0].k) == ("cyclic-k", 6)
        async with stack.client.get("/admin/policy") as response:
            assert (await response.json())["policy"] == "cyclic-k"
        status, body = await stack.post("/admin/policy", policy="no-such")
        assert (status, body["error"]["param"]) == (400, "policy")
        assert (await stack.post("/admin/policy", k=65))[0] == 400
        status, body = await stack.post("/admin/policy", window="awk")
        assert (status, body["error"]["param"]) == (400, "window")
        status, body = await stack.post("/admin/policy", window="goodput")
        assert (status, body["window"], stack.core.controls[-1].window) == (200, "goodput", "goodput")
        status, body = await stack.post("/admin/policy", bandwidth="mine")
        assert (status, body["error"]["param"]) == (400, "bandwidth")
        status, body = await stack.post("/admin/policy", bandwidth="minmax")
        assert (status, body["bandwidth"], stack.core.controls[-1].bandwidth) == (200, "minmax", "minmax")
        async with stack.client.post("/admin/policy", data=b'{"policy": "fixed-k"}') as response:
            assert response.status == 415


async def test_the_status_has_what_the_command_shows() -> None:
    async with running_stack() as stack:
        await stack.complete()
        async with stack.client.get("/admin/status") as response:
            body = await response.json()
        assert body["deployment"]["context"] == 512
        assert body["totals"]["tokens"] == len(byte_bpe().encode(TEXT))
        assert body["totals"]["rejections"] > 0
        assert [row["name"] for row in body["gateways"]] == ["gateway"]
        assert (body["sessions"], body["devices"], body["verifiers"]) == (0, [], [])
        assert {"policy", "k"} <= set(body["policy"])
        assert body["shares"] == {}


async def test_the_status_has_the_shares_that_it_understands() -> None:
    async with running_stack() as stack:
        await stack.link.broker.records.put(KEYS.shares, {"a": "50000 2", "b": "x y", "c": "7"})
        async with stack.client.get("/admin/status") as response:
            assert (await response.json())["shares"] == {"a": {"bits_s": 50_000, "exceeded": 2}}


async def test_admin_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("root\n")
    async with running_stack(admin_keys_file=str(path)) as stack:
        async with stack.client.get("/admin/status") as response:
            assert response.status == 401
        async with stack.client.get("/admin/status", headers={"Authorization": "Bearer root"}) as response:
            assert response.status == 200


async def test_it_drains() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.05
        call = asyncio.create_task(stream(stack))
        await until(lambda: stack.core.submits)
        stack.stop.set()
        await until(lambda: stack.gateway.api.draining_reason() is not None)
        assert text_of(await call) == TEXT
        async with asyncio.timeout(5):
            await stack.running
        with pytest.raises(aiohttp.ClientConnectorError):
            await stack.complete()


async def test_while_it_lingers_it_serves_and_sends_clients_elsewhere() -> None:
    async with running_stack(linger_s=0.5) as stack:
        assert (await stack.complete())[0] == 200  # a connection that is kept
        stack.stop.set()
        await until(lambda: stack.gateway.api.draining_reason() is not None)
        async with stack.client.get("/health") as response:
            assert response.status == 503
            assert "shutting down" in await response.text()
        async with stack.client.get("/v1/models") as response:
            assert response.status == 200
            assert response.headers["Connection"] == "close"
        body = {"model": MODEL, "prompt": "say it", "max_tokens": 100, "temperature": 0, "stream": True}
        async with stack.client.post("/v1/completions", json=body) as response:
            assert response.headers["Connection"] == "close"
            assert (await response.text()).endswith("data: [DONE]\n\n")
        async with asyncio.timeout(5):
            await stack.running


async def test_draining_has_a_bound() -> None:
    async with running_stack(drain_s=0.2) as stack:
        stack.core.hold.clear()
        call = asyncio.create_task(stack.complete())
        await until(lambda: stack.core.submits)
        stack.stop.set()
        assert (await call)[0] == 503
        await until(lambda: stack.core.cancels)
        async with asyncio.timeout(5):
            await stack.running


async def test_metrics_count_what_happened() -> None:
    async with running_stack() as stack:
        await stack.complete()
        await stack.complete(model="other")
        value = stack.gateway._registry.get_sample_value
        labels = {"endpoint": "/v1/completions"}
        assert value("outrider_gateway_requests_total", labels | {"status": "200"}) == 1
        assert value("outrider_gateway_requests_total", labels | {"status": "404"}) == 1
        tokens = len(byte_bpe().encode(TEXT))
        assert value("outrider_gateway_tokens_total", {"kind": "completion"}) == tokens
        assert value("outrider_gateway_ttft_seconds_count") == 1
        assert value("outrider_gateway_sessions") == 0
        assert (value("outrider_gateway_session_events_total", {"event": "reply_bytes"}) or 0) > 0


async def test_a_trace_has_the_wait_for_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.sessions.TICK_S", 0.05)
    async with running_stack(trace=True) as stack:
        await stack.complete()
        await until(lambda: stack.link.server.length(KEYS.trace) == 1)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.5"},
        {"X-Forwarded-Host": "llm.example.org"},
        {"Forwarded": "for=203.0.113.5"},
        {"X-Real-IP": "203.0.113.5"},
        {"Via": "1.1 proxy"},
        {"Host": "llm.example.org"},
        {"Host": "evil.example:8000"},
        {"Origin": "http://127.0.0.1:8000"},
    ],
)
async def test_what_a_proxy_or_a_page_sends_from_this_machine_needs_a_key(
    headers: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text("secret\n")
    async with running_stack(api_keys_file=str(path)) as stack:
        for method, url in (("POST", "/admin/policy"), ("GET", "/admin/policy"), ("GET", "/admin/status")):
            change = {"policy": "fixed-k"} if method == "POST" else None
            async with stack.client.request(method, url, json=change, headers=headers) as response:
                body = await response.json()
            assert (response.status, body["error"]["code"]) == (403, "admin_key_needed")
            assert "OUTRIDER_ADMIN_KEYS_FILE" in body["error"]["message"]
        assert stack.core.controls == []
        assert (await stack.post("/admin/policy", policy="fixed-k"))[0] == 200  # a program on this machine


async def test_an_absolute_target_names_its_host_too() -> None:
    async with running_stack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        writer.write(b"GET http://evil.example/admin/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"403" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_the_body_of_a_change_has_to_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.body.BODY_S", 0.1)
    async with running_stack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        head = b"POST /admin/policy HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: 100\r\n\r\n{")
        assert b"408" in await reader.readline()
        writer.close()
        await writer.wait_closed()
