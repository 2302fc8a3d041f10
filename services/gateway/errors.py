"""Errors for clients in OpenAI's format: {"error": {"message", "type", "param", "code"}}."""

from typing import Any

from pydantic_core import to_json

_TYPES = {
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable",
    504: "timeout_error",
}


class ApiError(Exception):
    """An error response. `param` names the wrong field; `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)

    def body(self) -> dict[str, Any]:
        """The error as JSON, for a response or an error event in a stream."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def payload(self) -> bytes:
        """`body` as bytes."""
        return to_json(self.body())


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request is invalid; a retry does not help."""
    return ApiError(400, message, param, code)


def unavailable(message: str, retry_after_s: int = 1, code: str = "unavailable") -> ApiError:
    """503: the request is valid; a later retry may succeed."""
    return ApiError(503, message, None, code, retry_after_s)
