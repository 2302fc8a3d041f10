"""The endpoints over HTTP: responses, streams, errors, and what becomes of a session that nobody reads."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.broker.contract import Entry
from shared.protocol.messages import Close, Tune, Verdict
from tests.services.gateway.stack import KEYS, MODEL, Stack, running_stack, until
from tests.services.gateway.tokenizers_for_tests import STOP_ID, byte_bpe

TEXT = "hello world, hello there"


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    """Data of a stream's events; "[DONE]" as it is."""
    assert response.status == 200, await response.text()
    assert response.content_type == "text/event-stream"
    lines = (await response.text()).split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


async def stream(stack: Stack, path: str = "/v1/completions", **fields: Any) -> list[Any]:
    body = {"model": MODEL, "prompt": "say it", "max_tokens": 100, "stream": True} | fields
    async with stack.client.post(path, json=body) as response:
        return await events(response)


def text_of(chunks: list[Any]) -> str:
    return "".join(choice["text"] for chunk in chunks if chunk != "[DONE]" for choice in chunk["choices"])


# --- responses ------------------------------------------------------------------------------------------


async def test_a_completion() -> None:
    async with running_stack() as stack:
        status, body = await stack.complete(seed=-1)
        assert status == 200
        choice = body["choices"][0]
        assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == (TEXT, "length", None)
        tokens = len(byte_bpe().encode(TEXT))
        assert body["usage"]["completion_tokens"] == tokens
        assert body["usage"]["prompt_tokens"] == len(byte_bpe().encode("say it"))
        rounds = -(-tokens // stack.core.width)
        speculative = body["usage"]["speculative"]
        assert speculative["rounds"] == rounds
        assert speculative["drafted_tokens"] == 4 * rounds
        assert speculative["tau"] == pytest.approx(tokens / rounds)
        assert body["outrider"] == {"seed": 2**64 - 1}
        assert body["object"] == "text_completion"
        log = await stack.link.load(stack.core.submits[0].session)
        assert log.spec.sampling.seed == 2**64 - 1
        assert log.spec.stop_ids == (STOP_ID,)


async def test_a_chat_goes_through_the_template_and_ends_at_the_stop_token() -> None:
    async with running_stack() as stack:
        stack.core.text = lambda log: [*byte_bpe().encode(TEXT), STOP_ID]
        status, body = await stack.chat(max_completion_tokens=50, user="me")
        assert status == 200
        message = body["choices"][0]["message"]
        assert (message["role"], message["content"]) == ("assistant", TEXT)
        assert body["choices"][0]["finish_reason"] == "stop"
        log = await stack.link.load(stack.core.submits[0].session)
        wanted = byte_bpe().encode_chat([{"role": "user", "content": "say it"}])
        assert log.spec.prompt == tuple(wanted)
        assert log.spec.sampling.temperature == 1.0


async def test_without_a_limit_a_chat_may_fill_the_context() -> None:
    async with running_stack() as stack:
        await stack.chat()
        submit = stack.core.submits[0]
        assert submit.prompt_len + submit.max_tokens == 512


async def test_several_prompts_are_choices() -> None:
    async with running_stack() as stack:
        stack.core.text = lambda log: list(log.spec.prompt)
        status, body = await stack.complete(prompt=["one", "two", "three"], outrider={"spans": True})
        assert status == 200
        assert [choice["text"] for choice in body["choices"]] == ["one", "two", "three"]
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert len({choice["seed"] for choice in body["outrider"]["choices"]}) == 3
        chunks = await stream(stack, prompt=["one", "two"], stream_options={"include_usage": True})
        for index, text in enumerate(("one", "two")):
            own = [c for chunk in chunks[:-1] for c in chunk["choices"] if c["index"] == index]
            assert "".join(choice["text"] for choice in own) == text
            assert [c["finish_reason"] for c in own if c["finish_reason"]] == ["length"]
        assert chunks[-2]["usage"]["completion_tokens"] == sum(
            len(byte_bpe().encode(t)) for t in ("one", "two")
        )


async def test_token_ids_as_prompt() -> None:
    async with running_stack() as stack:
        stack.core.text = lambda log: list(log.spec.prompt)
        ids = byte_bpe().encode(TEXT)
        assert (await stack.complete(prompt=ids))[1]["choices"][0]["text"] == TEXT
        assert [c["text"] for c in (await stack.complete(prompt=[ids, ids]))[1]["choices"]] == [TEXT, TEXT]


async def test_logprobs() -> None:
    async with running_stack() as stack:
        _, body = await stack.complete(logprobs=1)
        logprobs = body["choices"][0]["logprobs"]
        assert "".join(logprobs["tokens"]) == TEXT
        assert logprobs["text_offset"] == [
            len("".join(logprobs["tokens"][:i])) for i in range(len(logprobs["tokens"]))
        ]
        assert set(logprobs["token_logprobs"]) == {-0.25}
        _, body = await stack.chat(logprobs=True, top_logprobs=2)
        content = body["choices"][0]["logprobs"]["content"]
        assert "".join(entry["token"] for entry in content) == TEXT
        assert all(len(entry["top_logprobs"]) == 2 for entry in content)
        assert (await stack.chat(top_logprobs=2))[1]["error"]["param"] == "top_logprobs"


async def test_a_stop_string_across_tokens_ends_the_session_everywhere() -> None:
    async with running_stack() as stack:
        stack.core.pause_s, stack.core.width = 0.02, 1
        _, body = await stack.complete(stop=["ld, h", "zzz"])
        assert body["choices"][0]["text"] == "hello wor"
        assert body["choices"][0]["finish_reason"] == "stop"
        chunks = await stream(stack, stop="ld, h")
        assert text_of(chunks) == "hello wor"
        await until(lambda: len(stack.core.cancels) == 2)
        assert {cancel.reason for cancel in stack.core.cancels} == {"stop"}
        assert len(stack.gateway.sessions) == 0


async def test_ignore_eos_opens_without_stop_ids() -> None:
    async with running_stack() as stack:
        await stack.complete(ignore_eos=True)
        assert (await stack.link.load(stack.core.submits[0].session)).spec.stop_ids == ()


# --- streams --------------------------------------------------------------------------------------------


async def test_a_stream_has_a_chunk_per_verdict() -> None:
    async with running_stack() as stack:
        chunks = await stream(stack, outrider={"spans": True, "device": "pi-1"})
        ids = byte_bpe().encode(TEXT)
        assert chunks[-1] == "[DONE]"
        spans = [chunk["outrider"] for chunk in chunks[:-1]]
        assert [token for span in spans for token in span["tokens"]] == ids
        assert [len(span["tokens"]) for span in spans] == [
            len(ids[at : at + stack.core.width]) for at in range(0, len(ids), stack.core.width)
        ]
        assert all(span["accepted"] == len(span["tokens"]) - 1 for span in spans)
        assert text_of(chunks) == TEXT
        assert chunks[-2]["usage"]["speculative"]["rounds"] == len(chunks) - 1
        assert all("usage" not in chunk for chunk in chunks[:-2])
        assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
        assert stack.core.submits[0].device == "pi-1"


async def test_usage_comes_last_when_asked_for() -> None:
    async with running_stack() as stack:
        chunks = await stream(stack, stream_options={"include_usage": True})
        assert chunks[-2]["choices"] == []
        assert chunks[-2]["usage"]["speculative"]["rounds"] == len(chunks) - 2
        assert all(chunk["usage"] is None for chunk in chunks[:-2])
        always = {"include_usage": True, "continuous_usage_stats": True}
        chunks = await stream(stack, stream_options=always)
        counts = [chunk["usage"]["completion_tokens"] for chunk in chunks[:-1]]
        assert counts == sorted(counts)
        assert counts[0] == stack.core.width


async def test_a_chat_stream_says_its_role_once() -> None:
    async with running_stack() as stack:
        messages = [{"role": "user", "content": "hi"}]
        body = {"model": MODEL, "messages": messages, "stream": True}
        async with stack.client.post("/v1/chat/completions", json=body) as response:
            chunks = await events(response)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
        assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
        assert "".join(delta.get("content", "") for delta in deltas) == TEXT
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"


async def test_half_a_character_never_leaves() -> None:
    async with running_stack() as stack:
        text = "a🎉é東b"
        by_bytes = {data: token for token, data in byte_bpe().vocabulary.bytes_of.items() if len(data) == 1}
        stack.core.text = lambda log: [by_bytes[bytes([byte])] for byte in text.encode()]
        stack.core.width = 1
        chunks = await stream(stack)
        assert [chunk["choices"][0]["text"] for chunk in chunks[:-1]] == list(text)


@pytest.mark.parametrize("kind", ["twice", "overlap", "lost", "late", "garbage"])
async def test_whatever_becomes_of_replies_the_text_is_right(kind: str) -> None:
    async with running_stack() as stack:
        kept: list[Verdict] = []

        def overlap(verdict: Verdict) -> list[Verdict]:
            kept.append(verdict)
            tokens = tuple(token for earlier in kept for token in earlier.tokens)
            return [replace(verdict, base_len=kept[0].base_len, tokens=tokens)]

        def late(verdict: Verdict) -> list[Verdict]:
            kept.append(verdict)
            return list(reversed(kept)) if verdict.finish else []

        mangle = {
            "twice": lambda verdict: [verdict, verdict],
            "overlap": overlap,
            "lost": lambda verdict: [verdict] if verdict.finish or verdict.round % 2 else [],
            "late": late,
            "garbage": lambda verdict: [verdict],
        }
        stack.core.mangle = mangle[kind]
        if kind == "garbage":
            reply = KEYS.reply(stack.gateway.sessions.address)
            await stack.link.send(reply, Tune(1))
            await stack.gateway.sessions._take(Entry(reply, "1-1", b"\x07junk"))
        chunks = await stream(stack, outrider={"spans": True})
        assert text_of(chunks) == TEXT
        assert [t for chunk in chunks[:-1] for t in chunk["outrider"]["tokens"]] == byte_bpe().encode(TEXT)
        assert stack.gateway.sessions.counts["refused_messages"] == 2 * (kind == "garbage")


async def test_a_lost_last_verdict_is_found_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.sessions.QUIET_S", 0.1)
    monkeypatch.setattr("services.gateway.sessions.TICK_S", 0.05)
    async with running_stack() as stack:
        stack.core.mangle = lambda verdict: [] if verdict.finish else [verdict]
        assert (await stack.complete())[1]["choices"][0]["text"] == TEXT
        assert stack.gateway.sessions.counts["missed_replies"] == 1


# --- ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_goes_away_cancels_its_session(streaming: bool) -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        call = asyncio.create_task(stack.complete(stream=streaming))
        await until(lambda: stack.core.submits)
        call.cancel()
        await until(lambda: stack.core.cancels)
        assert stack.core.cancels[0].session == stack.core.submits[0].session
        assert len(stack.gateway.sessions) == 0


async def test_a_client_that_goes_away_in_mid_stream() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.02
        body = {"model": MODEL, "prompt": "x", "max_tokens": 100, "stream": True}
        async with stack.client.post("/v1/completions", json=body) as response:
            await response.content.readline()
            response.close()
        await until(lambda: stack.core.cancels)
        assert len(stack.gateway.sessions) == 0


async def test_a_cancel_waits_for_the_broker() -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        call = asyncio.create_task(stack.complete())
        await until(lambda: stack.core.submits)
        stack.link.away = True
        call.cancel()
        await until(lambda: len(stack.gateway.sessions) == 0)
        await asyncio.sleep(0.1)
        stack.link.away = False
        await until(lambda: stack.core.cancels)


async def test_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.sessions.OVERDUE_S", 0.1)
    monkeypatch.setattr("services.gateway.sessions.TICK_S", 0.05)
    async with running_stack(request_timeout_s=0.3) as stack:
        stack.core.hold.clear()
        status, body = await stack.complete()
        assert (status, body["error"]["type"]) == (504, "timeout_error")
        await until(lambda: stack.core.cancels)
        assert stack.core.cancels[0].reason == "deadline"


# --- the broker -----------------------------------------------------------------------------------------


async def test_a_short_absence_of_the_broker_only_pauses_a_stream() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.02
        call = asyncio.create_task(stream(stack))
        await until(lambda: stack.core.submits)
        stack.link.away = True
        await asyncio.sleep(0.7)
        assert (await stack.complete())[0] == 503
        stack.link.away = False
        assert text_of(await call) == TEXT


async def test_a_full_broker_is_503() -> None:
    async with running_stack() as stack:
        stack.link.server.full = True
        status, body = await stack.complete()
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert len(stack.gateway.sessions) == 0
        stack.link.server.full = False
        assert (await stack.complete())[0] == 200


async def test_a_broker_lost_ends_streams_with_an_error_event() -> None:
    async with running_stack() as stack:
        stack.core.pause_s = 0.05
        body = {"model": MODEL, "prompt": "x", "max_tokens": 100, "stream": True}
        async with stack.client.post("/v1/completions", json=body) as response:
            await response.content.readline()
            stack.link.away = True
            stack.gateway._watch._grace_s = 0.2
            rest = (await response.read()).decode().strip().split("\n\n")
        assert json.loads(rest[-1][6:])["error"]["type"] == "service_unavailable"
        async with stack.client.post("/v1/completions", json=body) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["code"] == "unavailable"
        stack.link.away = False
        await until(lambda: stack.core.cancels)
        await until(lambda: stack.gateway.api.objection() is None)
        assert (await stack.complete())[0] == 200


async def test_a_broker_back_without_its_data_is_served_anew() -> None:
    async with running_stack() as stack:
        stack.core.hold.clear()
        address = stack.gateway.sessions.address
        call = asyncio.create_task(stack.complete())
        await until(lambda: stack.core.submits)
        stack.link.lose_data()
        status, body = await call
        assert (status, body["error"]["code"]) == (503, "unavailable")
        stack.core.hold.set()
        await stack.core.announce()
        await until(lambda: stack.gateway.api.objection() is None)
        assert stack.gateway.sessions.address != address
        assert (await stack.complete())[1]["choices"][0]["text"] == TEXT


# --- errors ---------------------------------------------------------------------------------------------


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
        await until(lambda: "another" in (stack.gateway.api.objection() or ""))
        await stack.core.announce(protocol="99")
        await until(lambda: "99" in (stack.gateway.api.objection() or ""))
        await stack.core.announce()
        await until(lambda: stack.gateway.api.objection() is None)


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
        await stack.link.end(session, Close(session, 1, "error", "the row killed the batch"), "", "", address)
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
        loop, example = asyncio.get_running_loop(), fuzz.hypothesis.inner_test
        fuzz.hypothesis.inner_test = lambda *args, **kwargs: asyncio.run_coroutine_threadsafe(
            example(*args, **kwargs), loop
        ).result(30)
        await asyncio.to_thread(fuzz)
        assert len(statuses) >= 100
        assert {200, 400} <= set(statuses)


async def test_a_body_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.app.BODY_S", 0.1)
    async with running_stack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b"408" in await reader.readline()
        writer.close()
        await writer.wait_closed()


# --- admin, drain ---------------------------------------------------------------------------------------


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
        await until(lambda: stack.gateway.api.objection() is not None)
        assert (await stack.complete())[0] == 503
        assert text_of(await call) == TEXT
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
        assert value("outrider_gateway_session_events_total", {"event": "reply_bytes"}) > 0


async def test_a_trace_has_the_wait_for_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.sessions.TICK_S", 0.05)
    async with running_stack(trace=True) as stack:
        await stack.complete()
        await until(lambda: stack.link.server.length(KEYS.trace) == 1)
