"""Whether a request comes from a program on this machine, and not through a proxy or from a web page."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# Headers that proxies add. With any of them the peer's address is the proxy's and says nothing about the client.
FORWARDED: Final = (
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Original-Host",
    "X-Original-Forwarded-For",
    "X-ProxyUser-Ip",
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-Ray",
    "Fastly-Client-IP",
    "Fly-Client-IP",
)
_FORWARDED: Final = frozenset(name.lower() for name in FORWARDED)
_FORWARDED_PREFIX: Final = "x-forwarded-"
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9_.-]*)(?::[0-9]{0,5})?")


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or the name localhost."""
    address = _address(host)
    return address.is_loopback if address is not None else host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Sender:
    """What a request reveals about its sender.

    peer: the remote address of its connection. hosts: every host that it names (Host headers and its target).
    headers: names in any case.
    """

    peer: str
    hosts: Sequence[str]
    headers: Mapping[str, str]

    def foreign_reason(self) -> str | None:
        """Why the request may not come from a program on this machine; None without a sign of that.

        A page whose site's name resolves to this machine (DNS rebinding) names that site as the host.
        """
        if not is_loopback(self.peer):
            return f"it comes from {self.peer[:100] or 'nowhere'}"
        for name in self.headers:
            if name.lower() in _FORWARDED or name.lower().startswith(_FORWARDED_PREFIX):
                return f"it came through a proxy ({name[:100]})"
        for host in self.hosts or [""]:
            if not is_loopback(host_name(host)):
                return f"it asks for the host {host[:100]!r}, which is not this machine's own name"
        return self._page_reason()

    def rebound_reason(self) -> str | None:
        """Why the request may come from a web page on any machine; None without a sign of that.

        Such a page's host is a DNS name with a dot: neither an address nor a plain name.
        """
        for host in self.hosts or [""]:
            name = host_name(host)
            if _address(name) is None and (not name or "." in name):
                return (
                    f"it asks for the host {host[:100]!r}, a name that anybody may have made for this address"
                )
        return self._page_reason()

    def _page_reason(self) -> str | None:
        return "it was sent by a web page (Origin)" if "Origin" in self.headers else None


def host_name(host: str) -> str:
    """The host in a Host header, without port and brackets; "" when it is invalid."""
    match = _HOST.fullmatch(host.strip())
    return match[1].removeprefix("[").removesuffix("]").removesuffix(".") if match else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address. Dual-stack sockets show IPv4 as IPv6 (::ffff:127.0.0.1); it is returned as IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
