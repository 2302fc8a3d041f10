"""Radio cells and their users as JSON has them: what the queries of objectives `latency` and `goodput` share."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.planning.bandwidth.uploads import efficiency_of
from shared.planning.server_laws import Milliseconds, Positive, StrictModel

Name = Annotated[str, Field(min_length=1)]


class BandQuery(StrictModel):
    """A radio cell's band."""

    id: Name
    bandwidth_hz: Positive


class RadioUserQuery(StrictModel):
    """A user, and how it reaches the core: through a cell, with exactly one of eta and snr, or in no cell."""

    id: Name
    alpha: Annotated[float, Field(ge=0, lt=1)]
    prefix: Annotated[int, Field(ge=0)]
    comm_ms: Milliseconds = 0.0
    cell: Name | None = None
    eta: Positive | None = None
    snr: Positive | None = None
    floor_hz: Annotated[float, Field(ge=0)] | None = None
    ceiling_hz: Positive | None = None
    deadline_ms_per_token: Positive | None = None

    @model_validator(mode="after")
    def _radio(self) -> Self:
        given = [name for name in ("eta", "snr", "floor_hz", "ceiling_hz") if getattr(self, name) is not None]
        if self.cell is None and given:
            raise ValueError(
                f"user {self.id!r}: cell: missing, but {given[0]} is given; name the user's cell"
            )
        if self.cell is not None and (self.eta is None) == (self.snr is None):
            raise ValueError(f"user {self.id!r}: eta, snr: give exactly one of them for cell {self.cell!r}")
        return self

    @property
    def efficiency(self) -> float:
        """η in bit/s/Hz."""
        return self.eta if self.eta is not None else efficiency_of(self.snr or 0.0)


def check_cells(users: Sequence[RadioUserQuery], cells: Sequence[BandQuery]) -> None:
    """Every id is there once, every user's cell among the cells. Raises ValueError, which names them."""
    ids: list[str] = []
    for cell in cells:
        if cell.id in ids:
            raise ValueError(f"cells: id {cell.id!r} twice")
        ids.append(cell.id)
    seen: dict[str, str | None] = {}
    for user in users:
        if user.id in seen:
            first = seen[user.id]
            both = f", in cells {first!r} and {user.cell!r}; a user is in one" if first != user.cell else ""
            raise ValueError(f"users: id {user.id!r} twice{both}")
        seen[user.id] = user.cell
        if user.cell is not None and user.cell not in ids:
            raise ValueError(
                f"user {user.id!r}: cell: {user.cell!r} is not among the cells ({', '.join(ids) or 'none'})"
            )
