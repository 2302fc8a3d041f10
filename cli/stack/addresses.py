"""Addresses of this machine on which a broker may listen."""

import ipaddress
import socket


class NoAddress(ValueError):
    """An address that a broker cannot listen on; the text says why, or what to give instead."""


def own_address(text: str) -> str:
    """The address itself, if it is a concrete one of this machine. Raises NoAddress."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise NoAddress("not an IP address; give one of this machine, as in 192.168.1.5") from None
    if address.is_unspecified:
        raise NoAddress(
            "give one concrete address of this machine: the broker does not listen on all networks"
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((text, 0))
        except OSError as error:
            raise NoAddress(f"not an address of this machine ({error.strerror})") from None
    return text
