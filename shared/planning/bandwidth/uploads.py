"""What the users of a radio cell have to upload, checked: an invalid cell or user is refused by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Values = Sequence[float] | Floats

MS_PER_S: Final = 1e3
MAX_UPLOAD_MS: Final = 1e15  # with the whole cell: some 30,000 years, within what floats tell apart
ROUNDING: Final = 1e-12  # relative: floors may exceed the bandwidth by so much


class CellError(ValueError):
    """A cell or one of its users is not valid; the text names the user, the field and the bound."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A radio band that its users share. bandwidth_hz: all of it, above zero. Raises CellError."""

    id: str
    bandwidth_hz: float

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth_hz < inf:
            raise CellError(
                f"cell {self.id!r}: bandwidth_hz: {self.bandwidth_hz:g} Hz; it must be above zero and finite"
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """What each of n users gets at least and at most, in Hz [n]. Floors must fit into the bandwidth together."""

    floor_hz: Floats
    ceiling_hz: Floats

    @classmethod
    def of(
        cls,
        cell: Cell,
        ids: Sequence[str],
        floor_hz: Values | None = None,
        ceiling_hz: Values | None = None,
    ) -> "Limits":
        """Checked limits; None = no floors, no ceilings. Nobody gets more than the whole cell. Raises CellError."""
        floor = _array(ids, "floor_hz", floor_hz, 0.0)
        ceiling = _array(ids, "ceiling_hz", ceiling_hz, inf)
        _refuse(ids, "floor_hz", floor, ~((floor >= 0) & (floor < inf)), "at least zero and finite")
        _refuse(ids, "ceiling_hz", ceiling, ~(ceiling > 0), "above zero")
        for user, low, high in zip(ids, floor, ceiling, strict=True):
            if low > high:
                raise CellError(f"user {user!r}: floor_hz: {low:g} Hz is above ceiling_hz {high:g} Hz")
        if floor.sum() > cell.bandwidth_hz * (1 + ROUNDING):
            largest = int(np.argmax(floor))
            raise CellError(
                f"user {ids[largest]!r}: floor_hz: {floor[largest]:g} Hz, the largest of floors that add up to "
                f"{floor.sum():g} Hz; cell {cell.id!r} has {cell.bandwidth_hz:g} Hz"
            )
        return cls(floor, np.minimum(ceiling, np.maximum(cell.bandwidth_hz, floor)))


@dataclass(frozen=True, slots=True)
class Uploads:
    """The uploads of a cell's n users at a fixed spectral efficiency, that is, at a given noise power.

    bits [n]: payloads D_k. efficiency [n]: η_k = log2(1 + SNR_k), bit/s/Hz. weight [n]: of the weighted sum. Make them
    with `Uploads.of`, which checks them.
    """

    cell: Cell
    ids: tuple[str, ...]
    bits: Floats
    efficiency: Floats
    weight: Floats
    limits: Limits

    @classmethod
    def of(
        cls,
        cell: Cell,
        ids: Sequence[str],
        bits: Values,
        efficiency: Values,
        *,
        weight: Values | None = None,
        floor_hz: Values | None = None,
        ceiling_hz: Values | None = None,
    ) -> "Uploads":
        """Checked uploads. Raises CellError, which names the user and the field."""
        names = checked_ids(cell, ids)
        payloads = non_negative(names, "bits", bits)
        rates = positive(names, "eta", efficiency)
        weights = positive(names, "weight", np.ones(len(names)) if weight is None else weight)
        limits = Limits.of(cell, names, floor_hz, ceiling_hz)
        uploads = cls(cell, names, payloads, rates, weights, limits)
        with np.errstate(over="ignore"):
            alone, payload_hz = uploads.demand / cell.bandwidth_hz, payloads / rates
        refuse_starved(cell, names, payloads, limits)
        rule = f"such that the upload takes at most {MAX_UPLOAD_MS:g} ms with the whole cell"
        _refuse(names, "bits/eta", payload_hz, ~(alone <= MAX_UPLOAD_MS), rule)
        return uploads

    @property
    def demand(self) -> Floats:
        """a_k = D_k/η_k in Hz·ms [n]: the band that a user needs, times how long it needs it."""
        return MS_PER_S * self.bits / self.efficiency


def refuse_starved(cell: Cell, ids: Sequence[str], bits: Floats, limits: Limits) -> None:
    """Refuse floors [n] that leave somebody who has bits [n] to upload nothing of the band. Raises CellError."""
    without = np.flatnonzero((limits.floor_hz == 0) & (bits > 0))
    if len(without) and limits.floor_hz.sum() >= cell.bandwidth_hz * (1 - ROUNDING):
        raise CellError(
            f"user {ids[without[0]]!r}: floor_hz: the floors of others take all {cell.bandwidth_hz:g} Hz of cell "
            f"{cell.id!r}; lower them, or give this user one"
        )


def in_one_cell_each(ids: Sequence[str], cells: Iterable[tuple[str, Sequence[int]]]) -> None:
    """Refuse a user in two cells. ids: of all users; cells: their ids, and indices of their users. Raises CellError."""
    cell_of: dict[int, str] = {}
    for cell, members in cells:
        for member in members:
            if member in cell_of:
                raise CellError(
                    f"user {ids[member]!r}: cell: in {cell_of[member]!r} and in {cell!r}; a user is in one cell"
                )
            cell_of[member] = cell


def efficiency_of(snr: float) -> float:
    """η = log2(1 + SNR), bit/s/Hz (Shannon). snr: a ratio, not dB."""
    return float(np.log1p(snr) / np.log(2.0))


def checked_ids(cell: Cell, ids: Sequence[str]) -> tuple[str, ...]:
    """The ids of a cell's users. Raises CellError without users, or where one comes twice."""
    if not ids:
        raise CellError(f"cell {cell.id!r}: no users")
    seen: set[str] = set()
    for user in ids:
        if user in seen:
            raise CellError(f"user {user!r}: id: twice in cell {cell.id!r}")
        seen.add(user)
    return tuple(ids)


def positive(ids: Sequence[str], field: str, values: Values) -> Floats:
    """Values above zero and finite, one for each user. Raises CellError."""
    array = _array(ids, field, values, 0.0)
    _refuse(ids, field, array, ~((array > 0) & (array < inf)), "above zero and finite")
    return array


def non_negative(ids: Sequence[str], field: str, values: Values) -> Floats:
    """Values of at least zero and finite, one for each user. Raises CellError."""
    array = _array(ids, field, values, 0.0)
    _refuse(ids, field, array, ~((array >= 0) & (array < inf)), "at least zero and finite")
    return array


def _array(ids: Sequence[str], field: str, values: Values | None, default: float) -> Floats:
    array = np.full(len(ids), default) if values is None else np.array(values, dtype=np.float64)
    if array.shape != (len(ids),):
        raise CellError(f"{field}: {array.size} values for {len(ids)} users")
    return array


def _refuse(ids: Sequence[str], field: str, values: Floats, wrong: Bools, rule: str) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise CellError(f"user {ids[at]!r}: {field}: {values[at]:g}; it must be {rule}")
