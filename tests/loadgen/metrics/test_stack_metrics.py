"""Metrics of the services, from their pages before and after a run."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.client.streaming import Client
from loadgen.metrics.stack_metrics import Delta, ScrapeError, mismatches, parse, scrape, stack_metrics
from loadgen.mock_server import Mock
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import endpoint, make_plan
from loadgen.run.runner import run
from tests.loadgen.mock_runs import served

SCHEDULER = """
outrider_scheduler_positions_total{{position="1",outcome="accepted"}} {a}
outrider_scheduler_positions_total{{position="1",outcome="rejected"}} {b}
outrider_scheduler_positions_total{{position="2",outcome="accepted"}} 3
outrider_scheduler_drafted_tokens_total {c}
outrider_scheduler_rounds_total{{drafted="yes"}} {d}
"""
VERIFIER = """
outrider_verifier_batches_total {a}
outrider_verifier_emitted_tokens_total {b}
outrider_verifier_phase_seconds_sum{{phase="forward"}} {c}
outrider_verifier_phase_seconds_sum{{phase="commit"}} 0.5
outrider_device_link_bytes_total{{direction="in"}} {d}
"""


def increase() -> Delta:
    """A scheduler and two verifiers, before and after."""
    before = [SCHEDULER.format(a=10, b=10, c=40, d=5), *[VERIFIER.format(a=1, b=20, c=1.0, d=100)] * 2]
    after = [SCHEDULER.format(a=18, b=12, c=60, d=9), *[VERIFIER.format(a=9, b=50, c=3.0, d=400)] * 2]
    return Delta(parse(before), parse(after))


def test_increases_are_summed_over_processes() -> None:
    seen = stack_metrics(increase(), 10.0)
    assert seen["alpha"] == pytest.approx(8 / 10)  # of position 2 nothing new was looked at
    assert seen["acceptance_by_position"] == {1: pytest.approx(0.8)}
    assert (seen["drafted_tokens"], seen["wasted_tokens"]) == (20, 12)
    assert seen["tau"] == pytest.approx((8 + 4) / 4)
    assert seen["emitted_tokens"] == 60
    assert seen["link_bytes_per_emitted_token"] == pytest.approx(600 / 60)
    assert seen["verifier_utilisation"] == pytest.approx(4.0 / (2 * 10))


def test_a_pipeline_is_as_busy_as_its_stages() -> None:
    page = VERIFIER + "".join(
        f'outrider_verifier_stage_busy_seconds_total{{{{stage="{stage}"}}}} {{e}}\n' for stage in (1, 2)
    )
    before, after = (page.format(a=1, b=1, c=c, d=1, e=e) for c, e in ((0, 1.0), (9, 4.0)))
    seen = stack_metrics(Delta(parse([before]), parse([after])), 10.0)
    assert seen["verifier_utilisation"] == pytest.approx((3.0 + 3.0) / (2 * 10))


def test_a_count_that_differs_from_the_clients_is_reported() -> None:
    page = 'outrider_gateway_tokens_total{{kind="completion"}} {}\n'
    delta = Delta(parse([page.format(5)]), parse([page.format(25)]))
    assert mismatches(delta, {"completion": 20}) == []
    assert mismatches(delta, {"completion": 21}) == [
        "the gateway counted 20 completion tokens, the client 21"
    ]


async def test_a_page_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ScrapeError, match=r"http://127\.0\.0\.1:9/metrics"):
        await scrape(["http://127.0.0.1:9/metrics"])


async def test_a_run_with_differing_counts_is_not_valid(tmp_path: Path) -> None:
    """The mock server beside a page of a gateway that claims to have sent less."""
    pages = iter([f'outrider_gateway_tokens_total{{kind="completion"}} {count}\n' for count in (0, 7)])

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=next(pages))

    app = web.Application()
    app.router.add_get("/metrics", page)
    async with TestServer(app) as metrics, served(Mock(workers=9, service_s=0.001)) as url:
        options = RunOptions(
            url=url,
            metrics=[str(metrics.make_url("/metrics"))],
            rate_per_s=100.0,
            requests=5,
            max_dispatch_ms=1e4,
        )
        where = endpoint(options)
        async with Client(url, plain=True) as client:
            outcome = await run(make_plan(options, where, "mock"), client, RunState())
    assert outcome.metrics["completed"] == 5
    assert outcome.problems == ["the gateway counted 7 completion tokens, the client 20"]
    assert outcome.body["valid"] is False
