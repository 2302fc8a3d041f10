"""Checks addresses that users type, so that an error names the mistake and not its consequence.

No message repeats the address, because it may contain a password.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

BROKER_SCHEMES: Final = ("redis", "rediss")
GATEWAY_EXAMPLE: Final = "http://127.0.0.1:8000"
BROKER_EXAMPLE: Final = "redis://127.0.0.1:6379/0"
PORTS: Final = "ports go from 1 to 65535"
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class AddressError(ValueError):
    """An invalid address; the text says why and gives an example."""


def gateway_url(text: str) -> str:
    """Base URL of an OpenAI-compatible server, without a trailing `/v1`. Raises AddressError."""
    parts = _split(text, ("http", "https"), GATEWAY_EXAMPLE)
    if "@" in parts.netloc:
        raise AddressError(f"no user or password belongs in it; as in {GATEWAY_EXAMPLE}")
    if parts.query or parts.fragment:
        raise AddressError(f"nothing after ? or # belongs in it; as in {GATEWAY_EXAMPLE}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def broker_url(text: str) -> str:
    """Check the URL of a Redis or Valkey server and return it unchanged. Raises AddressError."""
    parts = _split(text, BROKER_SCHEMES, BROKER_EXAMPLE)
    if not re.fullmatch(r"(/[0-9]{0,5})?", parts.path):
        raise AddressError(
            f"after the port comes the number of the database or nothing; as in {BROKER_EXAMPLE}"
        )
    return text


def _split(text: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """Split an address with one of these schemes, a host, and optionally a valid port. Raises AddressError."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise AddressError(f"it holds a space or a control character; as in {example}")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise AddressError(f"its host or port cannot be read ({PORTS}); as in {example}") from None
    if parts.scheme not in schemes or not text[len(parts.scheme) :].startswith("://"):
        prefixes = " or ".join(f"{scheme}://" for scheme in schemes)
        raise AddressError(f"it does not begin with {prefixes}; as in {example}")
    if not host:
        raise AddressError(f"it names no host; as in {example}")
    if port == 0 or parts.netloc.endswith(":"):
        raise AddressError(f"its port is missing or 0 ({PORTS}); as in {example}")
    if not _is_host(host):
        raise AddressError(f"its host is neither an IP address nor a host name; as in {example}")
    return parts


def _is_host(host: str) -> bool:
    """Whether this is an IP address or a valid host name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        name = host.encode("idna").decode("ascii").removesuffix(".")
    except UnicodeError:
        return False
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))
