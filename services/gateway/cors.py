"""CORS: only web pages of listed origins may use the API from a browser."""

import re
from collections.abc import Mapping
from typing import Final

from shared.runtime.settings import SettingsError

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2048}")
METHODS: Final = "GET, POST"
EXPOSED: Final = "X-Request-Id, Retry-After"
PREFLIGHT_KEPT_S: Final = 600


class Cors:
    """Allowed origins, compared as exact text: scheme, host, and the port unless it is the scheme's default."""

    def __init__(self, origins: frozenset[str] = frozenset()) -> None:
        self._origins = origins

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may use the API."""
        return origin in self._origins

    def headers(self, origin: str) -> dict[str, str]:
        """CORS headers of a response; without permission for origins that are not allowed."""
        if not self._origins:
            return {}
        if not self.allows(origin):
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED,
            "Vary": "Origin",
        }

    def preflight(self, method: str, headers: Mapping[str, str]) -> dict[str, str] | None:
        """Headers of the response to a preflight request of an allowed page; None for any other request."""
        requested = headers.get("Access-Control-Request-Method", "")
        if method != "OPTIONS" or not requested or not self.allows(headers.get("Origin", "")):
            return None
        names = headers.get("Access-Control-Request-Headers", "")
        allowed = {"Access-Control-Allow-Headers": names} if _NAMES.fullmatch(names) else {}
        return {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Max-Age": str(PREFLIGHT_KEPT_S),
            **allowed,
        }


def read_origins(listed: str) -> Cors:
    """Parse OUTRIDER_CORS_ORIGINS. Raises SettingsError that names an invalid origin."""
    origins = [origin.strip().lower() for origin in listed.split(",") if origin.strip()]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"OUTRIDER_CORS_ORIGINS: {origin!r} is no origin; one is like https://app.example.org or "
                "http://localhost:3000 (* is not accepted: list the pages that may use this server)"
            )
    return Cors(frozenset(origins))
