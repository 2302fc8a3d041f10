"""Changed copies of messages, in half of the time of `dataclasses.replace`: each round makes several."""

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeVar

from shared.protocol.messages import MESSAGE_TYPES

M = TypeVar("M")
_READERS: Final = {cls: attrgetter(*[f.name for f in fields(cls)]) for cls in MESSAGE_TYPES.values()}
_PLACES: Final[Mapping[type, Mapping[str, int]]] = {
    cls: {f.name: at for at, f in enumerate(fields(cls))} for cls in MESSAGE_TYPES.values()
}


def changed(message: M, **values: Any) -> M:
    """A copy of a message of at least two fields, with other values for some. Raises KeyError for an unknown field."""
    cls: Any = type(message)
    copied, places = list(_READERS[cls](message)), _PLACES[cls]
    for name, value in values.items():
        copied[places[name]] = value
    new: M = cls(*copied)
    return new
