"""Hypothesis strategies for valid messages."""

from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt, MaxLen
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from shared.protocol.messages import MESSAGE_TYPES, Message
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, including its limits."""
    if get_origin(hint) is Annotated:
        return _bounded(hint.__origin__, [part for info in hint.__metadata__ for part in _parts(info)])
    if is_dataclass(hint):
        return of_dataclass(hint)
    if get_origin(hint) is tuple:
        args = get_args(hint)
        if args[-1] is Ellipsis:
            return st.lists(of_type(args[0]), max_size=3).map(tuple)
        return st.tuples(*map(of_type, args))
    if hint is bool:
        return st.booleans()
    return st.sampled_from(get_args(hint))  # a Literal


def of_dataclass(cls: Any) -> st.SearchStrategy[Any]:
    """Instances of a dataclass of annotated fields."""
    if cls is SamplingParams:
        return st.builds(
            SamplingParams,
            seed=st.integers(0, 2**64 - 1),
            vocab=st.integers(1, 2**24),
            temperature=st.floats(0, 2),
            top_k=st.integers(0, 2**24),
            top_p=st.floats(0, 1),
        )
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{field.name: of_type(hints[field.name]) for field in fields(cls)})


def _parts(info: Any) -> list[Any]:
    return list(info.metadata) if isinstance(info, FieldInfo) else [info]


def _whole(bound: Any) -> int:
    """A bound of an int field; the library knows it only as comparable."""
    return int(bound)


def _bounded(base: Any, parts: list[Any]) -> st.SearchStrategy[Any]:
    pattern = next((part.pattern for part in parts if getattr(part, "pattern", None)), None)
    longest = next((part.max_length for part in parts if isinstance(part, MaxLen)), None)
    if base is str and pattern is not None:
        return st.from_regex(pattern.replace("$", r"\Z"), alphabet=st.characters(codec="ascii"))
    if base is str:
        return st.text(st.characters(codec="utf-8"), max_size=min(longest or 0, 40))
    if base is bytes:
        return st.binary(max_size=40)
    if base is float:  # NaN is not equal to itself; it has its own test
        low = next((part.ge for part in parts if isinstance(part, Ge)), None)
        high = next((part.le for part in parts if isinstance(part, Le)), None)
        return st.floats(low, high, allow_nan=False)  # type: ignore[arg-type]
    if base is int:
        low = max([_whole(part.ge) for part in parts if isinstance(part, Ge)], default=None)
        high = min(
            [_whole(part.le) for part in parts if isinstance(part, Le)]
            + [_whole(part.lt) - 1 for part in parts if isinstance(part, Lt)],
            default=None,
        )
        assert not any(isinstance(part, Gt | Interval) for part in parts), (
            "a bound that this file does not know"
        )
        low, high = -(2**63) if low is None else low, 2**63 - 1 if high is None else high
        return st.integers(low, high) | st.sampled_from([low, high])
    return of_type(base)


messages: st.SearchStrategy[Message] = st.one_of(*map(of_dataclass, MESSAGE_TYPES.values()))
specs: st.SearchStrategy[SessionSpec] = of_dataclass(SessionSpec)
