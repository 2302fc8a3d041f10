"""The cohort's requests, its figures, and what is compared with shares."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from cli.bench.cell.__main__ import ARMS, body_of
from cli.bench.cell.carried import Carried, CarriedWatch
from cli.bench.cell.cohort import PROMPTS, Cohort, requests_of
from services.draft_worker.metrics import Metrics
from services.draft_worker.radio import Radio
from shared.cells.cell import Cell
from simulator.scenario import read_simulated
from simulator.virtual_loop import run_virtual
from tests.simulator.runs import SCENARIOS


def test_requests_are_the_same_every_time_one_for_each_device() -> None:
    devices = read_simulated(SCENARIOS / "cell-cohort.yaml").fleet(1.0)
    first, again = (requests_of(devices, 49152, "m") for _ in range(2))
    assert first == again
    assert [request.device for request in first] == [device.name for device in devices]
    lengths = sorted(len(request.prompt) for request in first)
    assert (lengths[0], lengths[-1]) == PROMPTS


def cohort(latency_s: float, texts: dict[str, tuple[int, ...]], of_share: float | None = 1.0) -> Cohort:
    carried: dict[str, dict[str, float | None]] = {"d": {"bits": 1.0, "active_s": 1.0, "of_share": of_share}}
    return Cohort(latency_s, {"d": latency_s}, 0.5, carried, texts)


def test_figures_are_relative_to_uniform_and_texts_are_compared() -> None:
    text: dict[str, tuple[int, ...]] = {"d": (1, 2)}
    found = {arm: [cohort(8.0 if arm == "uniform" else 4.0, text)] for arm in ARMS}
    found["joint"].append(cohort(6.0, {"d": (1, 3)}, 0.97))
    body = body_of(found, cohort(5.0, text))
    assert body["different_texts"] == 1
    assert body["arms"]["joint"]["of_uniform"] == pytest.approx(5 / 8)
    assert body["arms"]["joint"]["of_share"] == [0.97, 1.0]
    assert body["arms"]["minmax"]["of_uniform"] == 0.5


def test_what_was_carried_is_compared_with_shares_while_they_were_used() -> None:
    async def watch() -> dict[str, Carried]:
        registry = CollectorRegistry()
        metrics, radio = Metrics(registry), Radio(Cell(8000.0, "shares"))
        station = radio.station("d", 0.5)
        station.join()
        station.keep(1000.0)
        metrics.share.labels("d").set(1000.0)
        looking = CarriedWatch(radio, registry)
        task = asyncio.create_task(looking.run())
        station.send("up", 250, lambda: None)  # two seconds
        await asyncio.sleep(5.0)
        task.cancel()
        return looking.devices

    carried = run_virtual(watch())["d"]
    assert carried.bits == pytest.approx(2000)
    assert carried.active_s == pytest.approx(2.0, abs=0.05)
    assert carried.ratio == pytest.approx(1.0, rel=0.02)
    assert Carried(bits=5.0).ratio is None
