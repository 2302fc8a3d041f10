"""The delays of the devices' links, which a scenario may change in mid-run."""

from collections.abc import Iterable, Mapping

from services.draft_worker.link import Link


class DeviceDelays:
    """The delay of each device's link now, each way, over all its lives."""

    def __init__(self, delays_s: Mapping[str, float]) -> None:
        """delays_s: at the start, by the device's name."""
        self._delays_s = dict(delays_s)
        self._links: dict[str, Link] = {}

    def __getitem__(self, device: str) -> float:
        """Seconds, each way."""
        return self._delays_s[device]

    def follow(self, device: str, link: Link) -> None:
        """Let the link of a device's new life have the device's delay, now and after changes."""
        self._links[device] = link
        link.delay_s = self._delays_s[device]

    def change(self, devices: Iterable[str], delay_s: float) -> None:
        """Change the delay of some devices, for messages that are sent from now on."""
        for device in devices:
            self._delays_s[device] = delay_s
            if device in self._links:
                self._links[device].delay_s = delay_s
