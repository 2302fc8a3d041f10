"""Non-negative least squares for the few terms of a cost law.

Without NumPy, whose calls take longer than the sums of three terms: the scheduler refits laws while it serves.
"""

from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from typing import Final

RIDGE: Final = 1e-6


def nonnegative(gram: Sequence[Sequence[float]], moment: Sequence[float]) -> list[float]:
    """argmin of xᵀGx/2 − mᵀx over x ≥ 0, with a trace of ridge. gram: [n, n], moment: [n], n small.

    Exact. The minimum is the unconstrained one over a subset of the terms, with the others zero. If the solution over
    all terms has no negative coefficient, that is it. Otherwise all subsets are tried; three terms have seven. At an
    unconstrained minimum the value is −mᵀx/2, so the best subset has the largest mᵀx.
    """
    count = len(moment)
    scale = [sqrt(max(gram[i][i], 1e-12)) for i in range(count)]
    scaled = [float(m) / s for m, s in zip(moment, scale, strict=True)]
    ridged = [
        [float(gram[i][j]) / (scale[i] * scale[j]) + RIDGE * (i == j) for j in range(count)]
        for i in range(count)
    ]
    best, best_value = [0.0] * count, 0.0
    for size in range(count, 0, -1):
        for terms in combinations(range(count), size):
            part = _solve([[ridged[i][j] for j in terms] for i in terms], [scaled[i] for i in terms])
            value = sum(scaled[i] * x for i, x in zip(terms, part, strict=True))
            if min(part) >= 0 and value > best_value:
                best, best_value = [0.0] * count, value
                for i, x in zip(terms, part, strict=True):
                    best[i] = x
        if size == count and best_value > 0:
            break
    return [x / s for x, s in zip(best, scale, strict=True)]


def _solve(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """x of matrix · x = vector by Gauss's elimination. matrix: [n, n], symmetric, positive definite; it is spent."""
    count = len(vector)
    for i in range(count):
        for j in range(i + 1, count):
            factor = matrix[j][i] / matrix[i][i]
            for k in range(i, count):
                matrix[j][k] -= factor * matrix[i][k]
            vector[j] -= factor * vector[i]
    x = [0.0] * count
    for i in reversed(range(count)):
        x[i] = (vector[i] - sum(matrix[i][k] * x[k] for k in range(i + 1, count))) / matrix[i][i]
    return x
