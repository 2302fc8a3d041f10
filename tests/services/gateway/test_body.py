"""Request bodies: compressed, wrongly compressed, decompression bombs, wrongly framed."""

import asyncio
import gzip
import json
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.body import decompress
from services.gateway.errors import ApiError
from tests.services.gateway.stack import MODEL, Stack, running_stack

LIMIT = 1000
BODY = json.dumps({"model": MODEL, "prompt": "say it", "max_tokens": 100}).encode()


def bare(data: bytes) -> bytes:
    """Deflate without zlib's header."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)]


@pytest.mark.parametrize(("coding", "pack"), PACKED)
@given(data=st.binary(max_size=LIMIT))
def test_what_is_packed_comes_out(coding: str, pack: Any, data: bytes) -> None:
    assert decompress(pack(data), coding, LIMIT) == data


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@given(data=st.binary(max_size=60))
def test_any_bytes_are_unpacked_or_refused(coding: str, data: bytes) -> None:
    with suppress(ApiError):  # and nothing else
        assert len(decompress(data, coding, LIMIT)) <= LIMIT


@pytest.mark.parametrize(("coding", "pack"), PACKED)
@pytest.mark.parametrize("damage", ["empty", "plain", "cut short", "trailing"])
def test_what_is_not_packed_as_it_says_is_400(coding: str, pack: Any, damage: str) -> None:
    data = pack(BODY)
    raw = {"empty": b"", "plain": BODY, "cut short": data[:-3], "trailing": data + b"more"}[damage]
    with pytest.raises(ApiError, match=coding) as caught:
        decompress(raw, coding, LIMIT)
    assert (caught.value.status, caught.value.code) == (400, "invalid_encoding")


@pytest.mark.parametrize(("coding", "pack"), PACKED)
def test_no_more_than_the_limit_is_ever_made(coding: str, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = pack(bytes(50 << 20))
    made = []
    whole = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._inner = whole(bits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            made.append(self._inner.decompress(data, limit))
            return made[-1]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr("services.gateway.body.zlib.decompressobj", Watched)
    with pytest.raises(ApiError) as caught:
        decompress(bomb, coding, LIMIT)
    assert caught.value.status == 413
    assert [len(part) for part in made] == [LIMIT + 1]
    assert len(decompress(pack(bytes(LIMIT)), coding, LIMIT)) == LIMIT


async def send(stack: Stack, data: bytes, coding: str, path: str = "/v1/completions") -> tuple[int, Any, Any]:
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    async with stack.client.post(path, data=data, headers=headers, compress=None) as response:
        return response.status, await response.json(), response.headers


async def test_packed_requests_are_served_and_bad_ones_refused() -> None:
    async with running_stack(max_body_bytes=5000) as stack:
        for coding in ("gzip", "deflate"):
            pack = gzip.compress if coding == "gzip" else zlib.compress
            status, body, _ = await send(stack, pack(BODY), coding)
            assert (status, body["choices"][0]["text"]) == (200, "hello world, hello there")
            for path in ("/v1/completions", "/v1/chat/completions", "/admin/policy"):
                status, body, _ = await send(stack, BODY, coding, path)
                assert (status, body["error"]["code"]) == (400, "invalid_encoding")
                status, body, _ = await send(stack, pack(bytes(1 << 20)), coding, path)
                assert (status, body["error"]["code"]) == (413, "request_too_large")
        for coding in ("br", "zstd", "x-unheard-of"):
            status, body, headers = await send(stack, BODY, coding)
            assert (status, body["error"]["code"]) == (415, "unsupported_encoding")
            assert coding in body["error"]["message"]
            assert headers["Accept-Encoding"] == "gzip, deflate"
        assert (await send(stack, BODY, "identity"))[0] == 200
        assert (await send(stack, gzip.compress(BODY), "X-GZIP"))[0] == 200


async def test_a_body_that_is_framed_wrongly() -> None:
    async with running_stack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway.port)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head)
        writer.write(b"zork\r\n{}\r\n0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert set(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]) == {
            "message",
            "type",
            "param",
            "code",
        }
        writer.close()
        await writer.wait_closed()
