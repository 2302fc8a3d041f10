"""Reads and decompresses a request's body within bounds on time and size."""

import asyncio
import zlib
from typing import Final

from aiohttp import web

from services.gateway.errors import ApiError, bad_request

BODY_S: Final = 30.0  # limit for receiving a whole body
CODINGS: Final = ("gzip", "deflate")
_IDENTITY: Final = ("", "identity")
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS  # zlib's code for a gzip header
_RAW_BITS: Final = -zlib.MAX_WBITS  # zlib's code for no header, as some clients send "deflate"


async def read_body(request: web.Request) -> bytes:
    """The decompressed body. aiohttp must not decompress it itself (`auto_decompress=False`).

    Raises ApiError 400, 408, 413 or 415, and HTTPRequestEntityTooLarge.
    """
    try:
        async with asyncio.timeout(BODY_S):
            raw = await request.read()
    except TimeoutError:
        raise ApiError(408, f"The body did not come within {BODY_S:.0f} s.", code="timeout") from None
    except web.RequestPayloadError as error:
        kind = type(error.__cause__ or error).__name__
        raise bad_request(f"The body is not framed as HTTP asks ({kind}).", code="invalid_body") from None
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    coding = "gzip" if coding == "x-gzip" else coding  # an older name
    return raw if coding in _IDENTITY else decompress(raw, coding, request.client_max_size)


def decompress(raw: bytes, coding: str, limit: int) -> bytes:
    """Decompress `raw`. At most `limit` bytes of output are accepted.

    Raises ApiError: 415 for an unknown coding, 400 for invalid data, 413 beyond the limit.
    """
    if coding not in CODINGS:
        accepted = ", ".join(CODINGS)
        message = f"Content-Encoding {coding[:40]!r} is not supported; send {accepted}, or no such header."
        raise ApiError(415, message, code="unsupported_encoding", headers={"Accept-Encoding": accepted})
    bits = _GZIP_BITS if coding == "gzip" else _deflate_bits(raw)
    decoder = zlib.decompressobj(bits)
    try:
        body = decoder.decompress(raw, limit + 1)
        whole = decoder.eof and not decoder.unused_data
    except zlib.error:
        body, whole = b"", False
    if len(body) > limit:
        raise ApiError(413, f"The body is larger than {limit} bytes, unpacked.", code="request_too_large")
    if not whole:
        message = f"The body is not one whole {coding} stream, as its Content-Encoding says."
        raise bad_request(message, code="invalid_encoding")
    return body


def _deflate_bits(raw: bytes) -> int:
    """HTTP's "deflate" has a zlib header, whose first byte names the method (8); some clients omit the header."""
    return zlib.MAX_WBITS if raw[:1] and raw[0] & 0xF == 8 else _RAW_BITS
