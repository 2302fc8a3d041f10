"""API keys: authentication, and limits on concurrency and rate per key."""

import hmac
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from services.gateway.errors import ApiError
from services.gateway.trust import Sender, is_loopback
from shared.runtime.settings import GatewaySettings, SettingsError


@dataclass(slots=True)
class Budget:
    """A key's running requests and token bucket. `now` is the loop's clock in seconds.

    The bucket holds `rate` requests (at least one) and fills at `rate` per second.
    """

    concurrency: int
    rate: float
    under_way: int = 0
    bucket: float = -1.0  # -1 = not used yet, therefore full
    filled_at: float = 0.0

    def take(self, count: int, now: float, held: int = 0) -> None:
        """Start `count` requests beside `held` ones of the same HTTP request; end them with `release`.

        Raises ApiError 429, or 400 where waiting would not help.
        """
        size = max(1.0, self.rate)
        now = max(now, self.filled_at)  # requests may call this in another order than they began
        full = self.bucket < 0
        self.bucket = size if full else min(size, self.bucket + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if count + held > min(self.concurrency, size):
            prompts = math.floor(min(self.concurrency, size))
            raise ApiError(
                400, f"{count + held} prompts in one request; this key may have {prompts}", "prompt"
            )
        if self.under_way + count > self.concurrency:
            message = f"{self.under_way} requests under way; this key may have {self.concurrency} at once"
            raise ApiError(429, message, code="concurrency_limit_exceeded", retry_after_s=1)
        if self.bucket < count:
            wait_s = math.ceil((count - self.bucket) / self.rate)
            message = f"more than {self.rate:g} requests a second with this key"
            raise ApiError(429, message, code="rate_limit_exceeded", retry_after_s=max(1, wait_s))
        self.bucket -= count
        self.under_way += count

    def release(self, count: int) -> None:
        """End `count` requests."""
        self.under_way -= count

    @contextmanager
    def reserve(self, now: float) -> Iterator["Reservation"]:
        """Start one request before its number of prompts is known. All of its places are released at the end."""
        self.take(1, now)
        reservation = Reservation(self, now)
        try:
            yield reservation
        finally:
            self.release(reservation.count)


class Reservation:
    """The places that one HTTP request occupies, one per prompt."""

    def __init__(self, budget: Budget, now: float) -> None:
        self.count = 1
        self._budget = budget
        self._now = now

    def grow(self, count: int) -> None:
        """Grow to `count` prompts (at least one). Raises ApiError as `take` does."""
        self._budget.take(count - self.count, self._now, self.count)
        self.count = count


class ApiKeys:
    """The keys of a file, each with its own budget. Without a file all clients share one budget."""

    def __init__(self, keys: Sequence[str], concurrency: int, rate: float) -> None:
        self._budgets = {_digest(key): Budget(concurrency, rate) for key in keys}
        self._everyone = None if keys else Budget(concurrency, rate)

    @property
    def open(self) -> bool:
        """Whether requests need no key."""
        return self._everyone is not None

    def budget(self, authorization: str) -> Budget:
        """The budget of the key in an Authorization header. Raises ApiError 401."""
        if self._everyone is not None:
            return self._everyone
        given = _digest(_bearer(authorization))
        for digest, budget in self._budgets.items():
            if hmac.compare_digest(digest, given):
                return budget
        raise wrong_key(bool(authorization))


class AdminKeys:
    """Access to /admin: by the keys of a file, or without a file for programs on this machine only."""

    def __init__(self, keys: Sequence[str], keyless: bool = False) -> None:
        self._digests = [_digest(key) for key in keys]
        self._keyless = keyless

    def check(self, authorization: str, sender: Sender) -> None:
        """Raises ApiError 401 or 403."""
        if self._digests:
            given = _digest(_bearer(authorization))
            if not any(hmac.compare_digest(digest, given) for digest in self._digests):
                raise wrong_key(bool(authorization))
            return
        why = sender.rebound_reason() if self._keyless else sender.foreign_reason()
        if why is not None:
            message = f"This request needs a key, because {why}. Set OUTRIDER_ADMIN_KEYS_FILE and send one of its keys."
            raise ApiError(403, message, code="admin_key_needed")


def wrong_key(given: bool) -> ApiError:
    """Error 401 in OpenAI's format."""
    message = "Incorrect API key provided." if given else "No API key provided (Authorization: Bearer KEY)."
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def read_keys(path: str, setting: str) -> list[str]:
    """One key a line; blank lines and lines that start with # are skipped. Raises SettingsError."""
    if not path:
        return []
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}={path!r}: {error}") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingsError(f"{setting}={path!r}: no key in this file")
    return keys


def check_bind(settings: GatewaySettings) -> None:
    """Require keys unless the gateway listens on loopback. Raises SettingsError that names both settings."""
    if not settings.api_keys_file and not settings.keyless and not is_loopback(settings.host):
        raise SettingsError(
            f"OUTRIDER_HOST={settings.host!r} is reachable from elsewhere, so OUTRIDER_API_KEYS_FILE is needed "
            "(or OUTRIDER_KEYLESS=true, where something else keeps strangers out)"
        )


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    """Digest of a key. Comparing digests keeps a key's length and prefix from showing in the time taken."""
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=32).digest()
