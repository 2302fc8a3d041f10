"""The command line's HTTP client for a gateway. Every failure is a CommandError that names the URL and the fix."""

import errno
import json
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

import aiohttp
from aiohttp.http import HttpProcessingError

from cli.command.errors import CommandError
from shared.runtime.address import gateway_url

CALL_S: Final = 10.0  # time limit of a call, response included
CONNECT_S: Final = 10.0
IDLE_S: Final = 300.0  # a stream may be silent for this long; its total length has no limit
LINE_BYTES: Final = 1 << 20  # read buffer; aiohttp accepts lines of twice that


class GatewayClient:
    """Client of one gateway. Use as `async with GatewayClient(url, key) as client`.

    url: with or without /v1. idle_s: how long a stream may be silent. Raises AddressError.
    """

    def __init__(self, url: str, api_key: str = "", idle_s: float = IDLE_S) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = gateway_url(url)
        self._has_key = bool(api_key)
        self._idle_s = idle_s
        self._session = aiohttp.ClientSession(headers=headers, read_bufsize=LINE_BYTES)

    async def __aenter__(self) -> "GatewayClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return the response's JSON object. Raises CommandError."""
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        with self._explained(CALL_S):
            async with self._session.request(method, self.url + path, json=body, timeout=timeout) as response:
                if response.status >= 300:
                    raise await self._refusal(response, path)
                answer = await response.json(content_type=None)
        if not isinstance(answer, dict):
            raise self.foreign(f"{path} does not return a JSON object")
        return answer

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """POST `body` and yield the stream's events up to [DONE]. Raises CommandError, also after idle_s of silence."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self._idle_s)
        with self._explained(self._idle_s):
            async with self._session.post(self.url + path, json=body, timeout=timeout) as response:
                if response.status >= 300:
                    raise await self._refusal(response, path)
                async for line in response.content:
                    data = data_of(line)
                    if data == "[DONE]":
                        return
                    if data:
                        yield self._event(data)
        raise CommandError(f"{self.url}: the stream ended without [DONE]")

    def foreign(self, words: str) -> CommandError:
        """The error for a response that no Outrider gateway would send. words: what is wrong with it."""
        return CommandError(f"{self.url} does not answer like an Outrider gateway: {words}")

    def _event(self, data: str) -> dict[str, Any]:
        event = json.loads(data)
        if not isinstance(event, dict):
            raise self.foreign("an event is not a JSON object")
        if error := event.get("error"):
            raise CommandError(_message(error))
        return event

    async def _refusal(self, response: aiohttp.ClientResponse, path: str) -> CommandError:
        """The error for a response whose status is not success."""
        try:
            said = _message((await response.json(content_type=None))["error"])
        except (ValueError, KeyError, TypeError):
            said = f"HTTP {response.status} {response.reason or ''}".strip() + f" from {path}"
        if response.status != 401:
            return CommandError(f"{self.url}: {said}")
        kind = "an admin key" if path.startswith("/admin/") else "an API key"
        if not self._has_key:
            return CommandError(
                f"{self.url} requires {kind}: give --api-key KEY or set OUTRIDER_API_KEY ({said})"
            )
        return CommandError(
            f"{self.url} does not accept the key of --api-key or OUTRIDER_API_KEY as {kind} ({said})"
        )

    @contextmanager
    def _explained(self, limit_s: float) -> Iterator[None]:
        """Turn errors of the connection and of the response's form into CommandErrors."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            raise CommandError(f"no answer from {self.url}: {_reason(error.os_error)}") from None
        except aiohttp.ConnectionTimeoutError:
            raise CommandError(f"no answer from {self.url} within {CONNECT_S:g} s") from None
        except TimeoutError:
            raise CommandError(f"{self.url}: no data for {limit_s:g} s; giving up") from None
        except aiohttp.ClientError as error:
            raise CommandError(
                f"{self.url}: the connection failed: {str(error) or type(error).__name__}"
            ) from None
        except HttpProcessingError:
            raise self.foreign(f"a line of the response is longer than {2 * LINE_BYTES >> 20} MiB") from None
        except ValueError as error:  # no JSON, or no UTF-8
            raise self.foreign(str(error)) from None


def data_of(line: bytes) -> str:
    """Value of a `data` line of an event stream; "" for a comment, another field, or the end of an event."""
    name, _, value = line.decode("utf-8").rstrip("\r\n").partition(":")
    return value.removeprefix(" ") if name == "data" else ""


def _reason(error: OSError) -> str:
    """Why the connection failed. Errors of name resolution are not in `errno`, but have a text of their own."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def _message(error: Any) -> str:
    """Message of OpenAI's error object; other servers send plain text or other objects in its place."""
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or error)
