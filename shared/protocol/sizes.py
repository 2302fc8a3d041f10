"""About how many bytes the messages to and from a device have, for who plans what its link carries."""

from typing import Final

ID_BYTES: Final = 3  # of an id up to 65,535, as msgpack writes it
OPEN_BYTES: Final = 120  # beside the ids
VERDICT_BYTES: Final = 80  # of a device's copy, beside the ids
DRAFT_BYTES: Final = 50  # beside ids and survival


def open_bytes(length: int) -> int:
    """Of an Open of a session of so many tokens."""
    return OPEN_BYTES + ID_BYTES * length


def verdict_bytes(tokens: float) -> float:
    """Of a device's copy of a Verdict that commits so many tokens."""
    return VERDICT_BYTES + ID_BYTES * tokens


def draft_bytes(tokens: int) -> int:
    """Of a Draft of so many tokens, with their survival."""
    return DRAFT_BYTES + (ID_BYTES + 1) * tokens
