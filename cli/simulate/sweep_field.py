"""`--sweep FIELD=VALUE,VALUE…`: a field of a scenario and the values that it takes in turn."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import yaml

from cli.command.errors import CommandError

POLICY, K, SEED = "policy", "k", "seed"
EVERY: Final = "*"  # in a path: every element of a list


@dataclass(frozen=True, slots=True)
class SweepField:
    """A swept field: its path in the scenario, or policy, k or seed."""

    path: str
    values: Sequence[Any]

    @property
    def heading(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def of_policy(self) -> bool:
        """Whether it chooses the policy, not the scenario."""
        return self.path in (POLICY, K)


def parse_sweep(texts: Sequence[str]) -> list[SweepField]:
    """The fields of the options. Raises CommandError."""
    fields: list[SweepField] = []
    for text in texts:
        field = _parse(text)
        for other in fields:
            if f"{field.path}.".startswith(f"{other.path}.") or f"{other.path}.".startswith(f"{field.path}."):
                raise CommandError(f"--sweep {field.path}: --sweep {other.path} sets it already")
        fields.append(field)
    return fields


def _parse(text: str) -> SweepField:
    path, is_given, listed = (part.strip() for part in text.partition("="))
    if not path or not is_given:
        raise CommandError(f"--sweep {text!r}: give FIELD=VALUE,VALUE,…, for example load.rate=1,2,4")
    try:
        values = yaml.safe_load(f"[{listed}]")
    except yaml.YAMLError:
        raise CommandError(f"--sweep {path}: {listed!r} is not a list of values, such as 1,2,4") from None
    if not values or None in values:
        raise CommandError(f"--sweep {path}: a value is missing in {listed!r}")
    for at, value in enumerate(values):
        if value in values[:at]:
            raise CommandError(f"--sweep {path}: {value} is given twice")
    return SweepField(path, values)


def with_value(data: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The scenario's fields with one of them set. Raises CommandError for a path that leads nowhere."""
    changed = deepcopy(dict(data))
    *groups, name = path.split(".")
    places: list[Any] = [changed]
    for depth, group in enumerate(groups):
        places = [inner for place in places for inner in _inner(place, group, groups[:depth], path)]
    for place in places:
        for key in _keys(place, name, groups, path):
            place[key] = deepcopy(value)
    return changed


def _inner(place: Any, name: str, above: Sequence[str], path: str) -> list[Any]:
    """The fields or elements of a name; fields that the file leaves to their defaults are made."""
    found = []
    for key in _keys(place, name, above, path):
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        found.append(place[key])
    return found


def _keys(place: Any, name: str, above: Sequence[str], path: str) -> list[Any]:
    """The keys of a name in a group of fields or a list."""
    where = ".".join(above)
    if isinstance(place, dict):
        return [name]
    if not isinstance(place, list):
        raise CommandError(f"--sweep {path}: {where} has no fields")
    if name == EVERY:
        return list(range(len(place)))
    if not name.isdecimal() or int(name) >= len(place):
        raise CommandError(
            f"--sweep {path}: {where} has the elements 0 to {len(place) - 1}, or {EVERY} for every one"
        )
    return [int(name)]
