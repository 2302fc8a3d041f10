"""The emulated devices' recordings."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.draft_worker.fleet import Fleet, radios_of, read_recordings
from services.draft_worker.metrics import Metrics
from shared.runtime.settings import DraftWorkerSettings, load
from shared.scenario.scenario import Scenario


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


def test_devices_of_a_cell_share_one_radio() -> None:
    group = {"alpha": 0.8, "draft": "5 ms"}
    scenario = Scenario.model_validate(
        {
            "about": "Two cells, and a device in none.",
            "cells": [{"id": "a", "bandwidth": "8 kbit"}, {"id": "b", "bandwidth": "8 kbit"}],
            "devices": [
                {**group, "count": 2, "cell": "a", "payload_bits_per_token": 80},
                {**group, "cell": "b"},
                group,
            ],
            "policies": ["fixed-k"],
        }
    )
    devices = scenario.fleet(40.0)
    radios = radios_of(scenario.cells_of(devices))
    fleet = Fleet(devices, None, load(DraftWorkerSettings), radios)
    assert list(radios) == ["a", "b"]
    links = [worker.link for worker in fleet._workers]
    assert [link.station is not None for link in links] == [True, True, True, False]
    assert [link.payload_bytes(3) for link in links] == [30, 30, 0, 0]
    for link in links[:2]:
        assert link.station is not None
        assert link.station._radio is radios["a"]  # type: ignore[attr-defined]


class DraftSessions(list[int]):
    """So many, of ten tokens each."""

    def __init__(self, count: int) -> None:
        super().__init__([10] * count)

    @property
    def tokens(self) -> int:
        return sum(self)
