"""HTTP to a gateway for the command line. Whatever fails is a CommandError that says where and what to do."""

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

CALL_S: Final = 10.0  # a short question, whole
CONNECT_S: Final = 10.0
IDLE_S: Final = 300.0  # of a stream: since the last byte, however long the answer is
LINE_BYTES: Final = 1 << 20  # of a stream; aiohttp reads lines of twice that


class GatewayClient:
    """Use as `async with GatewayClient(url, key) as client`. url: with or without /v1. Raises AddressError."""

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
        """The JSON object that it answers."""
        timeout = aiohttp.ClientTimeout(total=CALL_S)
        with self._explained(CALL_S):
            async with self._session.request(method, self.url + path, json=body, timeout=timeout) as response:
                if response.status >= 300:
                    raise await self._refusal(response, path)
                answer = await response.json(content_type=None)
        if not isinstance(answer, dict):
            raise self.foreign(f"{path} answers no JSON object")
        return answer

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a stream up to its [DONE]. It may take as long as it likes, but not be silent for idle_s."""
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
        raise CommandError(f"{self.url} ended the answer before its end")

    def foreign(self, words: str) -> CommandError:
        """The error when an answer is not what a gateway answers."""
        return CommandError(f"{self.url} does not answer like an Outrider gateway: {words}")

    def _event(self, data: str) -> dict[str, Any]:
        event = json.loads(data)
        if not isinstance(event, dict):
            raise self.foreign("an event is no JSON object")
        if error := event.get("error"):
            raise CommandError(_message(error))
        return event

    async def _refusal(self, response: aiohttp.ClientResponse, path: str) -> CommandError:
        """What to raise for a status that is not success."""
        try:
            said = _message((await response.json(content_type=None))["error"])
        except (ValueError, KeyError, TypeError):
            said = f"HTTP {response.status} {response.reason or ''}".strip() + f" from {path}"
        if response.status != 401:
            return CommandError(f"{self.url}: {said}")
        kind = "an admin key" if path.startswith("/admin/") else "an API key"
        if not self._has_key:
            return CommandError(
                f"{self.url} asks for {kind}: give --api-key KEY or set OUTRIDER_API_KEY ({said})"
            )
        return CommandError(
            f"{self.url} does not take the key of --api-key or OUTRIDER_API_KEY as {kind} ({said})"
        )

    @contextmanager
    def _explained(self, limit_s: float) -> Iterator[None]:
        """Errors of the connection and of what comes over it, in words."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            raise CommandError(f"nobody answers at {self.url}: {_why(error.os_error)}") from None
        except aiohttp.ConnectionTimeoutError:
            raise CommandError(f"nobody answers at {self.url} within {CONNECT_S:g} s") from None
        except TimeoutError:
            raise CommandError(f"{self.url}: nothing came for {limit_s:g} s; given up") from None
        except aiohttp.ClientError as error:
            raise CommandError(
                f"{self.url}: the connection failed: {str(error) or type(error).__name__}"
            ) from None
        except HttpProcessingError:
            raise self.foreign(f"a line of the answer is longer than {2 * LINE_BYTES >> 20} MiB") from None
        except ValueError as error:  # no JSON, or no UTF-8
            raise self.foreign(str(error)) from None


def data_of(line: bytes) -> str:
    """What a line of an event stream carries; "" when it is a comment, another field, or the end of an event."""
    name, _, value = line.decode("utf-8").rstrip("\r\n").partition(":")
    return value.removeprefix(" ") if name == "data" else ""


def _why(error: OSError) -> str:
    """Why no connection came about; a name that cannot be resolved has an error number of its own kind."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def _message(error: Any) -> str:
    """Of OpenAI's error object, or of what others send in its place."""
    found = error.get("message") if isinstance(error, dict) else error
    return str(found or error)
