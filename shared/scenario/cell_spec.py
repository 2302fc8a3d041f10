"""A radio cell of a scenario, and what is wrong with a scenario's cells."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field

from shared.cells.cell import MAX_MEMBERS, Cell
from shared.cells.sharing import Sharing
from shared.scenario.quantity import Band, Quantity


class CellSpec(BaseModel):
    """A cell whose devices share its band. bandwidth: kHz or MHz, or kbit a second, of the whole cell.

    sharing: see shared/cells/cell.py. duplex: either direction has such a band.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    bandwidth: Band = Field(
        default=cast(Any, None), validate_default=True
    )  # so that its own error says what to give
    sharing: Sharing = "equal"
    duplex: bool = False

    @property
    def in_hz(self) -> bool:
        """Whether its devices need efficiencies in bit/s/Hz; otherwise these are factors, 1 where none is given."""
        return self.bandwidth.unit != "kbit"

    def cell(self, devices: Iterable["Placed"]) -> Cell:
        """The cell, without members yet. devices: of the fleet."""
        band_hz = self.bandwidth.band_hz
        cell = Cell(band_hz, self.sharing, self.duplex)
        if self.sharing == "shares":
            inside = (device for device in devices if device.cell == self.id)
            cell.give({d.name: d.share * band_hz for d in inside if d.share is not None}, 0.0)
        return cell


def bands_text(cells: Iterable[CellSpec]) -> str:
    """The cells whose devices may be given shares, as in OUTRIDER_CELLS."""
    return ", ".join(f"{cell.id}={cell.bandwidth}" for cell in cells if cell.sharing == "shares")


class Placed(Protocol):
    """A device that may be in a cell. share: of the band, where one is given."""

    @property
    def name(self) -> str: ...
    @property
    def cell(self) -> str: ...
    @property
    def share(self) -> float | None: ...


class Group(Protocol):
    """A group of devices, as a scenario gives it."""

    @property
    def count(self) -> int: ...
    @property
    def cell(self) -> str: ...
    @property
    def eta(self) -> Quantity | None: ...
    @property
    def share(self) -> float | None: ...
    @property
    def has_bandwidth(self) -> bool: ...


def problems(cells: Sequence[CellSpec], groups: Sequence[Group]) -> Iterator[str]:
    """What is wrong with cells and the groups in them, by field, with what to do."""
    by_id = {cell.id: cell for cell in cells}
    for n, cell in enumerate(cells):
        if by_id[cell.id] is not cell:
            yield f"cells.{n}.id: there are two cells {cell.id!r}; give each an id of its own"
    for n, group in enumerate(groups):
        for field, problem in _of_group(group, by_id):
            yield f"devices.{n}.{field}: {problem}"
    for n, cell in enumerate(cells):
        inside = [group for group in groups if group.cell == cell.id]
        if (members := sum(group.count for group in inside)) > MAX_MEMBERS:
            yield f"cells.{n}: {members} devices; a cell takes at most {MAX_MEMBERS}, so give several cells"
        if (shares := sum(group.count * (group.share or 0.0) for group in inside)) > 1 + 1e-9:
            yield f"cells.{n}: the shares of its devices add up to {shares:g}; give at most 1 in all"


def _of_group(group: Group, cells: dict[str, CellSpec]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    if not group.cell:
        for field, value in (("eta", group.eta), ("share", group.share)):
            if value is not None:
                yield field, "only devices in a cell have one; name the cell, like cell: c1"
        return
    cell = cells.get(group.cell)
    if cell is None:
        known = (
            f"there are {', '.join(cells)}" if cells else "give cells, like [{id: c1, bandwidth: 256 kbit}]"
        )
        yield "cell", f"no cell {group.cell!r}; {known}"
        return
    if group.has_bandwidth:
        yield "link.bandwidth", f"cell {cell.id} has the bandwidth; leave it out"
    if cell.in_hz and group.eta is None:
        yield (
            "eta",
            f"it is missing, and cell {cell.id} has its bandwidth in Hz; give bit/s/Hz, like 2 or 0.4..4",
        )
