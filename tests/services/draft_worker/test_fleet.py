"""The emulated devices' recordings."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.draft_worker.fleet import read_recordings
from services.draft_worker.metrics import Metrics


def test_recordings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"texts": [[1, 2, 3], [4]], "vocabulary": "h", "vocab": 9}))
    found = read_recordings(file)
    assert found.texts == ((1, 2, 3), (4,))
    assert (found.of((1, 2)), found.of((4,)), found.of((2,))) == (0, 1, None)


def test_a_file_without_them_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text("{}")
    with pytest.raises(KeyError):
        read_recordings(file)


def test_devices_share_one_page_of_metrics() -> None:
    """Gauges are sums over all of them, whichever incarnation they are in."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for device, sessions in (("a", 1), ("b", 2), ("a", 3)):
        metrics.track(device, DraftSessions(sessions))
    assert registry.get_sample_value("outrider_device_sessions") == 5
    assert registry.get_sample_value("outrider_device_kv_tokens") == 50


class DraftSessions(list[int]):
    """So many, of ten tokens each."""

    def __init__(self, count: int) -> None:
        super().__init__([10] * count)

    @property
    def tokens(self) -> int:
        return sum(self)
