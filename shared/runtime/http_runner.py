"""aiohttp's server with our responses and log lines for invalid HTTP: no traceback, none of the client's bytes."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong

# (status, what is wrong) -> response.
Refusal = Callable[[int, str], web.Response]

_CLIENTS: Final = (HttpProcessingError, web.RequestPayloadError)

log = structlog.get_logger()


def plain_refusal(status: int, message: str) -> web.Response:
    """One line of text."""
    return web.Response(status=status, text=f"{message}\n")


class HttpRunner(web.AppRunner):
    """An AppRunner that answers invalid requests, which no handler sees, with `refusal`."""

    def __init__(self, app: web.Application, *, refusal: Refusal = plain_refusal, **options: Any) -> None:
        """options: arguments of AppRunner."""
        super().__init__(app, access_log=None, **options)
        self._refusal = refusal

    async def _make_server(self) -> web.Server:
        """Overrides aiohttp's method, which `setup` calls once."""
        made = await super()._make_server()
        return _Server(self._refusal, made)


class _Server(web.Server):
    """A copy of the server `made` that creates our own connections."""

    def __init__(self, refusal: Refusal, made: web.Server) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
        self._refusal = refusal

    def __call__(self) -> web.RequestHandler:
        return _Connection(self._refusal, self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_refusal",)

    def __init__(self, refusal: Refusal, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refusal = refusal

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """aiohttp calls this for a request that it cannot read, and for an error that no middleware handled."""
        status, reason = self._meaning(status, exc)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed", **_error(exc))
        elif isinstance(exc, BadHttpMethod):  # TLS, mostly, and port scans
            log.debug("request refused", status=status, reason=reason, **_error(exc))
        else:
            log.warning("request refused", status=status, reason=reason, **_error(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer has been sent already")
        response = self._refusal(status, reason)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp calls this when a connection fails."""
        log.error("connection failed", **_error(kw.get("exc_info")))

    def _meaning(self, status: int, exc: BaseException | None) -> tuple[int, str]:
        if isinstance(exc, LineTooLong):
            limit = max(self.max_line_size, self.max_field_size)
            return (
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The URL or a header is longer than {limit} bytes.",
            )
        if status == HTTPStatus.BAD_REQUEST:
            return status, "The request is not HTTP."
        return status, f"{HTTPStatus(status).phrase}."


def _error(error: object) -> dict[str, Any]:
    """Log fields of an error. A client's error is named by type only, since its text quotes the request."""
    if isinstance(error, _CLIENTS):
        return {"error": type(error).__name__}
    return {"exc_info": error} if isinstance(error, BaseException) else {}
