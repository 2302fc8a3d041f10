"""Addresses of this machine that a broker may be opened at."""

import ipaddress
import socket


class NoAddress(ValueError):
    """Not an address to listen on; the text says why and what to give."""


def own_address(text: str) -> str:
    """The address, if it is one of this machine's and a concrete one. Raises NoAddress."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise NoAddress("an IP address of this machine, as in 192.168.1.5") from None
    if address.is_unspecified:
        raise NoAddress("one concrete address of this machine: the broker is not opened to all networks")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError as error:
            raise NoAddress(f"not an address of this machine ({error.strerror})") from None
    return text
