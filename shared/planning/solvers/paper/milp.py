"""A mixed-integer linear programme, built by variables and rows. HiGHS solves it, through SciPy."""

from collections.abc import Iterable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from shared.planning.solvers.arrays.problem_arrays import Floats

Terms = Iterable[tuple[int, float]]  # (variable, coefficient); a variable may come twice


class OutOfTime(RuntimeError):
    """The time limit passed before the solver had an optimum."""


class Milp:
    """Minimises the cost subject to rows. Variables are not negative."""

    def __init__(self) -> None:
        self._cost: list[float] = []
        self._binary: list[bool] = []
        self._rows: list[tuple[int, int, float]] = []
        self._low: list[float] = []
        self._high: list[float] = []

    def variable(self, cost: float = 0.0, *, binary: bool = False) -> int:
        """Add a variable; returns its number."""
        self._cost.append(cost)
        self._binary.append(binary)
        return len(self._cost) - 1

    def one_of(self, costs: Iterable[float]) -> list[int]:
        """Add binary variables of which exactly one is 1; returns their numbers."""
        chosen = [self.variable(cost, binary=True) for cost in costs]
        self.row([(variable, 1.0) for variable in chosen], low=1.0, high=1.0)
        return chosen

    def row(self, terms: Terms, low: float = -np.inf, high: float = np.inf) -> None:
        """Add the constraint low <= Σ coefficient · variable <= high."""
        self._rows.extend((len(self._low), variable, coefficient) for variable, coefficient in terms)
        self._low.append(low)
        self._high.append(high)

    def solve(self, seconds: float = np.inf) -> Floats | None:
        """The optimal values of the variables; None where the programme is infeasible. Raises OutOfTime."""
        if seconds <= 0:
            raise OutOfTime
        rows, columns, data = (np.array(part) for part in zip(*self._rows, strict=True))
        matrix = csr_array((data, (rows, columns)), shape=(len(self._low), len(self._cost)))
        binary = np.array(self._binary)
        result = milp(
            np.array(self._cost),
            integrality=binary.astype(int),
            bounds=Bounds(0.0, np.where(binary, 1.0, np.inf)),
            constraints=LinearConstraint(matrix, self._low, self._high),
            options={"mip_rel_gap": 1e-9} | ({} if np.isinf(seconds) else {"time_limit": seconds}),
        )
        if result.status == 1:
            raise OutOfTime
        return None if result.x is None else np.asarray(result.x)
