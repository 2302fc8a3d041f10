"""Runs planning on a thread while the last good plan stays in force."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from services.scheduler.core import Core
from services.scheduler.metrics import Metrics
from services.scheduler.plans import PlanRequest
from shared.compute.compute import Compute
from shared.planning.policy import Plan

PLAN_POLL_S: Final = 0.1  # interval of checks whether plans are out of date

log = structlog.get_logger()


class Planner:
    """Computes the plans that the core requests. One that raises or takes longer than limit_s is discarded."""

    def __init__(
        self, core: Callable[[], Core | None], compute: Compute, metrics: Metrics, limit_s: float
    ) -> None:
        self._core, self._compute, self._metrics, self._limit_s = core, compute, metrics, limit_s
        self._overrun: asyncio.Task[Plan | None] | None = None

    async def turn(self) -> None:
        """Check once, and compute all plans that are due."""
        await asyncio.sleep(PLAN_POLL_S)
        core = self._core()
        if core is None or (self._overrun and not self._overrun.done()):
            return  # a planner that overran occupies the thread until it ends
        loop = asyncio.get_running_loop()
        core.update_plan_metrics(loop.time())
        for request in core.plan_requests(loop.time()):
            began = loop.time()
            core.mark_plan_requested(request, began)
            plan, well = await self._plan(request)
            self._metrics.plan_time.observe(loop.time() - began)
            if well and core is self._core():
                core.take_plan(request, plan, loop.time())
                log.info("planned", took_ms=round(1e3 * (loop.time() - began)), **log_fields(request, plan))

    async def _plan(self, request: PlanRequest) -> tuple[Plan | None, bool]:
        """The plan, and whether planning succeeded in time."""
        task = asyncio.create_task(self._compute.run(request.solve))
        done, _ = await asyncio.wait([task], timeout=self._limit_s)
        if not done:
            log.warning("planner overran", policy=request.policy.name, limit_s=self._limit_s)
            self._metrics.plans.labels("overran").inc()
            task.add_done_callback(_ignore)
            self._overrun = task
            return None, False
        try:
            return task.result(), True
        except Exception:  # whatever a policy raises: the last good plan stays in force
            log.exception("planner failed", policy=request.policy.name)
            self._metrics.plans.labels("raised").inc()
            return None, False


def log_fields(request: PlanRequest, plan: Plan | None) -> dict[str, object]:
    """A plan and its inputs as fields of a log line."""
    law = request.server.law
    known: dict[str, object] = {
        "verifier": request.verifier,
        "pass_ms": f"{law.beta_ms:.1f} + {law.per_token_ms:.3f} new + {law.per_context_ms:.4f} cached"
        f" + {request.server.arrival_ms:.2f} came",
        "prompts": f"{1e3 * request.server.prompts.per_ms:.2f}/s of {request.server.prompts.each_ms:.0f} ms",
        "alpha": _range(view.alpha for view in request.views),
        "draft_ms": _range(1e3 * view.draft_s_per_token for view in request.views),
        "link_ms": _range(1e3 * view.link_s for view in request.views),
        "spread_ms": _range(1e3 * view.spread_s for view in request.views),
    }
    if plan is None:
        return known
    return known | {
        "batches": [len(batch) for batch in plan.batches],
        "min_ready": plan.min_ready,
        "max_rows": plan.max_rows,
        "lengths": dict(sorted(Counter(plan.lengths.values()).items())),
        "cycle_ms": round(plan.cycle_ms, 1),
        "tokens_per_s": round(plan.tokens_per_s, 1),
    }


def _range(values: Iterable[float]) -> str:
    known = sorted(values)
    return f"{known[0]:.3g}..{known[-1]:.3g}"


def _ignore(task: "asyncio.Task[Plan | None]") -> None:
    """Retrieve the outcome of a planner that overran, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()
