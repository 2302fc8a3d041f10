"""Failing requests get an error in OpenAI's format with the right status."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway import app
from shared.protocol.messages import Close
from tests.services.gateway.stack import MODEL, running_stack, until


async def test_requests_that_cannot_be_served() -> None:
    async with running_stack() as stack:
        long = "dog " * 600
        cases: list[tuple[dict[str, Any], int, str]] = [
            ({"model": "other"}, 404, "model"),
            ({"prompt": ""}, 400, "prompt"),
            ({"prompt": []}, 400, "prompt"),
            ({"prompt": ["a", ""]}, 400, "prompt"),
            ({"prompt": long}, 400, "prompt"),
            ({"prompt": [1, 2, 10**6]}, 400, "prompt"),
            ({"prompt": [-1]}, 400, "prompt"),
            ({"max_tokens": -1}, 400, "max_tokens"),
            ({"max_tokens": 512}, 400, "max_tokens"),
            ({"max_completion_tokens": 5000}, 400, "max_completion_tokens"),
            ({"prompt": ["x"] * 300}, 400, "prompt"),
            ({"zork": 1}, 400, "zork"),
        ]
        for fields, status, param in cases:
            got, body = await stack.complete(**fields)
            assert (got, body["error"]["param"]) == (status, param), fields
        assert (await stack.chat(messages=[{"role": "user", "content": long}]))[1]["error"][
            "param"
        ] == "messages"
        assert stack.core.submits == []


async def test_urls_methods_and_bodies() -> None:
    async with running_stack(max_body_bytes=2000) as stack:
        for method, path, data, status in (
            ("POST", "/v1/completions", b"{", 400),
            ("POST", "/v1/completions", b"x" * 3000, 413),
            ("GET", "/v1/completions", None, 405),
            ("GET", "/v1/nothing", None, 404),
            ("GET", "/v1/models/other/model", None, 404),
        ):
            async with stack.client.request(method, path, data=data) as response:
                assert response.status == status
                assert set((await response.json())["error"]) == {"message", "type", "param", "code"}
                assert response.headers["X-Request-Id"]


async def test_models_and_health() -> None:
    async with running_stack() as stack:
        async with stack.client.get("/v1/models") as response:
            cards = (await response.json())["data"]
        assert [(card["id"], card["max_model_len"]) for card in cards] == [(MODEL, 512)]
        async with stack.client.get(f"/v1/models/{MODEL}") as response:
            assert (await response.json())["id"] == MODEL
        async with stack.client.get("/health", headers={"X-Request-Id": "abc-1"}) as response:
            assert response.status == 200
            assert response.headers["X-Request-Id"] == "abc-1"


async def test_nothing_is_served_before_a_core_is_there() -> None:
    async with running_stack(ready=False) as stack:
        await until(lambda: stack.gateway.sessions.address)
        status, body = await stack.complete()
        assert status == 503
        assert "no core" in body["error"]["message"]
        async with stack.client.get("/health") as response:
            assert response.status == 503
        await stack.core.announce(vocabulary="another")
        await until(lambda: "another" in (stack.gateway.api.not_ready_reason() or ""))
        await stack.core.announce(protocol="99")
        await until(lambda: "99" in (stack.gateway.api.not_ready_reason() or ""))
        await stack.core.announce()
        await until(lambda: stack.gateway.api.not_ready_reason() is None)


async def test_keys_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("secret\n")
    async with running_stack(api_keys_file=str(path), key_concurrency=1) as stack:
        assert (await stack.complete())[0] == 401
        async with stack.client.get("/v1/models") as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
        headers = {"Authorization": "Bearer secret"}
        body = {"model": MODEL, "prompt": "x"}
        stack.core.hold.clear()
        first = asyncio.create_task(stack.client.post("/v1/completions", json=body, headers=headers))
        await until(lambda: stack.core.submits)
        async with stack.client.post("/v1/completions", json=body, headers=headers) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
        stack.core.hold.set()
        (await first).close()
        async with stack.client.post("/v1/completions", json=body, headers=headers) as response:
            assert response.status == 200


async def test_a_session_that_fails_tells_why() -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        call = asyncio.create_task(stack.complete())
        await until(lambda: stack.core.submits)
        session, address = stack.core.submits[0].session, stack.gateway.sessions.address
        await stack.link.broker.sessions.end(
            session, Close(session, 1, "error", "the row killed the batch"), "", "", address
        )
        status, body = await call
        assert (status, body["error"]["message"]) == (500, "the row killed the batch")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "prompt",
    "messages",
    "stop",
    "max_tokens",
    "seed",
    "temperature",
    "outrider",
    "logprobs",
    "stream",
    "top_p",
]


async def test_no_body_is_ever_answered_500() -> None:
    async with running_stack() as stack:
        statuses: list[int] = []

        @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=150)
        @given(
            path=st.sampled_from(["/v1/completions", "/v1/chat/completions", "/admin/policy"]),
            body=st.binary(max_size=40) | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
        )
        async def fuzz(path: str, body: Any) -> None:
            if isinstance(body, dict):
                base = {
                    "model": MODEL,
                    "prompt": "a",
                    "max_tokens": 4,
                    "messages": [{"role": "user", "content": "a"}],
                }
                base.pop("messages" if path == "/v1/completions" else "prompt")
                body = json.dumps(base | body).encode("utf-8", "surrogatepass")
            headers = {"Content-Type": "application/json"}
            async with stack.client.post(path, data=body, headers=headers) as response:
                statuses.append(response.status)
                assert response.status in (200, 202, 400)
                if response.status == 400:
                    error = (await response.json())["error"]
                    assert set(error) == {"message", "type", "param", "code"}

        # Hypothesis calls synchronously, from a thread of its own; the examples run on this loop all the same.
        loop, handle = asyncio.get_running_loop(), fuzz.hypothesis  # type: ignore[attr-defined]
        example = handle.inner_test
        handle.inner_test = lambda *args, **kwargs: asyncio.run_coroutine_threadsafe(
            example(*args, **kwargs), loop
        ).result(30)
        await asyncio.to_thread(fuzz)
        assert len(statuses) >= 100
        assert {200, 400} <= set(statuses)


async def test_a_body_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.body.BODY_S", 0.1)
    async with running_stack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b"408" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_fault_of_ours_after_a_session_was_opened_ends_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it is; here the log line of the request fails."""

    class Broken:
        def info(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        def exception(self, *_: object, **__: object) -> None:
            """The fault itself is logged without another one."""

    async with running_stack() as stack:
        stack.core.hold.clear()
        with monkeypatch.context() as patched:
            patched.setattr(app, "log", Broken())
            assert (await stack.complete())[0] == 500
        async with asyncio.timeout(5):
            while not stack.core.cancels:
                await asyncio.sleep(0.01)
        assert stack.core.cancels[0].session == stack.core.submits[0].session
