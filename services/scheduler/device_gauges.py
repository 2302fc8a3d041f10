"""The scheduler's device estimates as metrics, computed on each scrape."""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.scheduler.metrics import PREFIX
from shared.planning.estimates import DeviceEstimate

# Metric name, help text, and its value from an estimate (None: not known yet).
_GAUGES: Final[tuple[tuple[str, str, Callable[[DeviceEstimate], float | None]], ...]] = (
    (
        "device_link_seconds",
        "Verdict there and draft back, beside drafting, by device",
        lambda known: known.link_s.value,
    ),
    (
        "device_delay_seconds",
        "Of its link alone, there and back: the shortest of recent rounds",
        lambda known: known.delay_s.value,
    ),
    ("device_link_spread_seconds", "About its standard deviation", lambda known: known.spread_s.value),
    (
        "device_rate_bits_per_second",
        "Of its link, where sizes of messages were seen to matter; of absurd times the slowest of all",
        lambda known: known.rate_bits_s if known.rate_bits_s and isfinite(known.rate_bits_s) else None,
    ),
    (
        "device_fixed_seconds",
        "Verdict there and draft back, but for what their sizes take at that rate",
        lambda known: known.link.law.delay_s if known.link.law else None,
    ),
    ("device_token_seconds", "Drafting of one token", lambda known: known.draft_s.value),
    (
        "device_alpha",
        "Acceptance of its sessions' drafts",
        lambda known: known.alpha.value if known.alpha else None,
    ),
    (
        "device_overconfidence",
        "By how much likelier it thinks its drafted tokens than they are accepted",
        lambda known: known.overconfidence,
    ),
)


class DeviceGauges(Collector):
    """Collects one gauge per figure. devices: returns the estimates of live devices by name."""

    def __init__(self, devices: Callable[[], Mapping[str, DeviceEstimate]]) -> None:
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        """One metric family per figure, labelled by device."""
        devices = sorted(self._devices().items())
        for name, text, figure in _GAUGES:
            family = GaugeMetricFamily(PREFIX + name, text, labels=["device"])
            for device, known in devices:
                if (value := figure(known)) is not None:
                    family.add_metric([device], value)
            yield family
