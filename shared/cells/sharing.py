"""How a cell's band is divided among its members: equally, by given shares, or among those who transfer."""

from collections.abc import Collection, Mapping
from typing import Final, Literal

Sharing = Literal["equal", "shares", "contention"]
SHARINGS: Final[tuple[Sharing, ...]] = ("equal", "shares", "contention")
MIN_BITS_S: Final = (
    1000.0  # of a member whose share is zero or next to nothing: control messages still get through
)
MIN_PART: Final = 0.1  # but no more of the band than this part of an equal share


def equal_widths(band_hz: float, members: Collection[str]) -> dict[str, float]:
    """B / n for each, used or not."""
    return dict.fromkeys(members, band_hz / len(members)) if members else {}


def given_widths(
    band_hz: float, etas: Mapping[str, float], given_hz: Mapping[str, float]
) -> dict[str, float]:
    """The given shares in Hz, but a least width for everyone; the sum is at most `band_hz`.

    etas: bit/s/Hz of all members. Those without a given share divide what the others leave. With s the shares and f the
    least widths, B_d = f_d + c·max(0, s_d − f_d), where c ≤ 1 is 1 if that fits: then shares above the least are kept
    to the letter. Nobody loses more than MIN_PART of a share.
    """
    unnamed = [name for name in etas if name not in given_hz]
    left_hz = max(0.0, band_hz - sum(given_hz[name] for name in etas if name in given_hz))
    requested = {name: given_hz[name] if name in given_hz else left_hz / len(unnamed) for name in etas}
    min_widths = {name: min_width_hz(band_hz, len(etas), eta) for name, eta in etas.items()}
    above = {name: max(0.0, requested[name] - min_widths[name]) for name in etas}
    room_hz, requested_hz = band_hz - sum(min_widths.values()), sum(above.values())
    scale = min(1.0, room_hz / requested_hz) if requested_hz else 1.0
    return {name: min_widths[name] + scale * above[name] for name in etas}


def min_width_hz(band_hz: float, members: int, eta: float) -> float:
    """The width that a member has whatever its share: MIN_BITS_S, or a tenth of an equal share if that is less."""
    return min(MIN_BITS_S / eta, MIN_PART * band_hz / members)


def check_shares(band_hz: float, given_hz: Mapping[str, float]) -> None:
    """Raise ValueError for shares that are negative or together more than the band."""
    for name, share_hz in given_hz.items():
        if not 0 <= share_hz < float("inf"):
            raise ValueError(f"share of {name}: {share_hz}; give 0 or more")
    if (total := sum(given_hz.values())) > band_hz * (1 + 1e-9):
        raise ValueError(f"shares of {total:g} in all; the cell has {band_hz:g}")
