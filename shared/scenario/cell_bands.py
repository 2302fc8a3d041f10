"""The radio cells of a deployment and their bands, as a setting gives them."""

import re

from shared.cells.cell import MAX_MEMBERS
from shared.scenario.quantity import band_of

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CellBandsError(ValueError):
    """A list of cells that is not valid; the text names the cell and what is allowed."""


def cell_bands(text: str) -> dict[str, float]:
    """Bands by cell, in Hz or in bit/s, of a text like `c1=256 kbit, c2=20 MHz`. Raises CellBandsError."""
    bands: dict[str, float] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, equals, band = (piece.strip() for piece in entry.partition("="))
        if not equals or not NAME.fullmatch(name):
            raise CellBandsError(f"{entry!r}: give a cell and its band, like c1=256 kbit")
        if name in bands:
            raise CellBandsError(f"cell {name!r}: it is there twice")
        if len(bands) >= MAX_MEMBERS:
            raise CellBandsError(f"at most {MAX_MEMBERS} cells")
        try:
            bands[name] = band_of(band).band_hz
        except ValueError as error:
            raise CellBandsError(f"cell {name!r}: {error}") from None
    return bands
