"""Whether a request was sent from this machine by a program of its own: not through a proxy, not by a web page."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# What proxies add. Any of them means that the peer's address is the proxy's, and says nothing of who asks.
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
    """Whether an address, or the name localhost, is this machine's own."""
    address = _address(host)
    return address.is_loopback if address is not None else host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Sender:
    """What a request shows of who sent it.

    peer: the address at the other end of its connection. hosts: every host it names (Host headers and its target).
    headers: names in any case.
    """

    peer: str
    hosts: Sequence[str]
    headers: Mapping[str, str]

    def foreign_reason(self) -> str | None:
        """Why it may come from elsewhere than a program on this machine; None when nothing says so.

        A page of another site whose name was made to lead here (DNS rebinding) names that site as its host.
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
        """Why it may be a web page's, wherever it comes from; None when nothing says so.

        A page's host is a name that DNS can lead here: neither an address nor a name without a dot.
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
    """Of a Host header: without port and brackets; "" when it is none."""
    match = _HOST.fullmatch(host.strip())
    return match[1].removeprefix("[").removesuffix("]").removesuffix(".") if match else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """IPv4 in IPv6's clothes (::ffff:127.0.0.1), as sockets for both show it, is IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
