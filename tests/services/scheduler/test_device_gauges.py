"""Device estimates as metrics."""

import pytest
from prometheus_client import CollectorRegistry

from services.scheduler.device_gauges import DeviceGauges
from tests.services.scheduler.desk import Desk, beat


def test_it_tells_what_was_learnt_of_those_that_are_alive() -> None:
    desk = Desk(devices=("d:1", beat("draft_worker", "e:2", draft_us=20_000)))
    registry = CollectorRegistry()
    registry.register(DeviceGauges(desk.core.devices))
    desk.start("a")
    desk.now += 0.1  # 40 ms of drafting, and 60 of links
    desk.take(desk.draft("a"))
    seen = registry.get_sample_value
    assert seen("outrider_scheduler_device_token_seconds", {"device": "e"}) == pytest.approx(0.02)
    drafted = desk.core.sessions["a"].device.split(":")[0]
    assert seen("outrider_scheduler_device_alpha", {"device": drafted}) is None
    desk.fleet(devices=("d:1",))
    assert seen("outrider_scheduler_device_token_seconds", {"device": "d"}) is not None
    assert seen("outrider_scheduler_device_token_seconds", {"device": "e"}) is None
