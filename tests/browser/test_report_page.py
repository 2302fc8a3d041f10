"""The report in a browser: all charts are drawn, without errors and without network requests."""

import os
from pathlib import Path

import pytest

from loadgen.report.page import build
from tests.browser.chromium import Page, opened
from tests.loadgen.sample_results import DEVICES, write_run, write_sweep

pytestmark = pytest.mark.browser

MARKS = ".scatterlayer path.js-line, .scatterlayer path.point, .barlayer .point path"
CHARTS = f"""Object.fromEntries([...document.querySelectorAll(".js-plotly-plot")].map(
  plot => [plot.dataset.chart, plot.querySelectorAll("{MARKS}").length]))"""
DRAWN = """new Promise(done => { const look = () => {
  const boxes = [...document.querySelectorAll("[data-chart]")];
  boxes.every(box => box.querySelector(".main-svg")) ? done(boxes.length) : setTimeout(look, 50); }; look(); })"""
# Charts follow the window's width a moment later.
FITS = """new Promise(done => { const page = document.documentElement, since = Date.now(); const look = () => {
  const over = page.scrollWidth - page.clientWidth;
  over <= 0 || Date.now() - since > 5000 ? done(over) : setTimeout(look, 50); }; look(); })"""


async def looked_at(page: Page, report: Path) -> dict[str, int]:
    """Marks by chart, once all are drawn, of a page that was quiet meanwhile."""
    await page.open(report.as_uri())
    count = await page.evaluate(DRAWN)
    marks: dict[str, int] = await page.evaluate(CHARTS)
    assert len(marks) == count
    assert all(marks.values()), marks
    assert page.errors == []
    assert page.requests == [report.as_uri()]
    return marks


def screenshot_path(folder: Path) -> Path:
    return Path(os.environ.get("OUTRIDER_SCREENSHOT") or folder / "report.png")


async def test_a_run_with_spans(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    build([write_run(tmp_path / "run.json", policy="outrider")], report)
    async with opened(tmp_path / "profile") as page:
        marks = await looked_at(page, report)
        assert {"ttft", "e2e", "tpot", "itl", "throughput", "acceptance-by-position", "pipeline"} <= set(
            marks
        )
        rows = await page.evaluate(
            '[...document.querySelectorAll("[data-chart=pipeline] .ytick text")].map(tick => tick.textContent)'
        )
        assert [row for row in rows if row.startswith("device ")] == [
            f"device pi-{n}" for n in range(DEVICES)
        ]
        assert [row for row in rows if row.startswith("verifier ")] == ["verifier core"]
        await page.screenshot(screenshot_path(tmp_path))
        await page.resize(700, 900)
        assert await page.evaluate(FITS) <= 0
        await page.screenshot(screenshot_path(tmp_path).with_suffix(".narrow.png"))


async def test_runs_compared_and_a_sweep(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "fast.json", policy="outrider"),
        write_run(tmp_path / "slow.json", with_spans=False, slower=1.6, stack=False, policy="fixed-k"),
    ]
    report = tmp_path / "report.html"
    build([*runs, write_sweep(tmp_path / "rates.json")], report)
    async with opened(tmp_path / "profile") as page:
        marks = await looked_at(page, report)
        assert {"compared-output-throughput", "sweep-output-throughput", "pipeline", "requests"} <= set(marks)
        await page.screenshot(screenshot_path(tmp_path).with_suffix(".compared.png"))
