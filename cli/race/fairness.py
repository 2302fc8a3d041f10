"""Each user's modelled rate under the proportionally fair plan, which maximises Σ log rate."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.planning.cost import Packed
from shared.planning.objective import Objective
from shared.planning.problem import LengthBounds, PackedServer, Problem, User
from shared.planning.solvers.solve import solve
from shared.planning.strategies.best_strategy import ServingQuery, best_strategy, strategies_of_batches
from shared.planning.strategies.user_arrays import MIN_DRAFT_MS, UserArrays
from shared.scenario.scenario import DeviceSpec

MAX_DRAFT: Final = 16
MAX_ROWS: Final = 64


def fair_rates(devices: Sequence[DeviceSpec], law: Packed, context: float) -> list[float]:
    """Tokens a second of each device's user. context: cached tokens of each."""
    count = len(devices)
    alpha = np.array([device.alpha for device in devices])
    draft_ms = np.maximum([device.draft_ms for device in devices], MIN_DRAFT_MS)
    spread_ms = np.array([2 * device.jitter_ms for device in devices])
    comm_ms = np.array([2 * device.delay_ms for device in devices]) + spread_ms
    user_arrays = UserArrays(
        alpha=alpha,
        prefix=np.full(count, context),
        draft_ms=draft_ms,
        comm_ms=comm_ms,
        spread_ms=spread_ms,
        max_lengths=np.full(count, MAX_DRAFT),
        alpha_std=np.zeros(count),
    )
    server = PackedServer(law)
    users = tuple(
        User(device.name, float(alpha[m]), round(context), float(draft_ms[m]), float(comm_ms[m]))
        for m, device in enumerate(devices)
    )
    cycle, _ = solve(
        Problem(users, server, LengthBounds(MAX_DRAFT, min_draft=0)), Objective("fair"), "outrider"
    )
    strategies = strategies_of_batches(np.array(cycle.split.lengths), cycle.split.batches, MAX_ROWS)
    candidate = best_strategy(
        ServingQuery(user_arrays, server, "fair", MAX_ROWS, MAX_DRAFT), [strategies] if strategies else []
    )
    return [1e3 * float(rate) for rate in candidate.rates]
