"""What the devices of a cell carried, beside what the shares that they were given allow."""

import asyncio
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from services.draft_worker.radio import Radio
from shared.cells.cell import Usage

LOOK_S: Final = 0.01
SHARE: Final = "outrider_device_share_bits_per_second"


@dataclass(slots=True)
class Carried:
    """A device's bits, the bits that its share allowed while it transferred, and the seconds of that."""

    bits: float = 0.0
    allowed_bits: float = 0.0
    active_s: float = 0.0

    @property
    def ratio(self) -> float | None:
        """Carried bits by allowed ones; None where no share was given."""
        return self.bits / self.allowed_bits if self.allowed_bits else None


class CarriedWatch:
    """Looks at a cell every LOOK_S. registry: of its devices, which say what share they have."""

    def __init__(self, radio: Radio, registry: CollectorRegistry) -> None:
        self._radio, self._registry = radio, registry
        self._before = {name: _bits(usage) for name, usage in radio.cell.usage(radio.time()).items()}
        self.devices: dict[str, Carried] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        at = self._radio.time()
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._radio.time()
            self._look(now, now - at)
            at = now

    def _look(self, now: float, seconds: float) -> None:
        cell = self._radio.cell
        active = {name for name, _ in cell.rates()}
        for name, usage in cell.usage(now).items():
            carried = self.devices.setdefault(name, Carried())
            carried.bits = _bits(usage) - self._before.get(name, 0.0)
            if name in active:
                carried.active_s += seconds
                share = self._registry.get_sample_value(SHARE, {"device": name})
                carried.allowed_bits += (share or 0.0) * seconds


def _bits(usage: Usage) -> float:
    return usage.up_bits + usage.down_bits
