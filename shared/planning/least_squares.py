"""Non-negative least squares for the few terms of a cost law."""

from itertools import combinations

import numpy as np
import numpy.typing as npt


def nonnegative(gram: npt.NDArray[np.float64], moment: npt.NDArray[np.float64]) -> list[float]:
    """argmin of xᵀGx/2 − mᵀx over x ≥ 0, with a trace of ridge. gram: [n, n], moment: [n], n small.

    Exact. The minimum is the unconstrained one over a subset of the terms, with the others zero. If the solution over
    all terms has no negative coefficient, that is it. Otherwise all subsets are tried; three terms have seven. At an
    unconstrained minimum the value is −mᵀx/2, so the best subset has the largest mᵀx.
    """
    count = len(moment)
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-12))
    ridged = gram / np.outer(scale, scale) + 1e-6 * np.eye(count)
    scaled = moment / scale
    best, best_value = np.zeros(count), 0.0
    for size in range(count, 0, -1):
        for terms in map(list, combinations(range(count), size)):
            part = np.linalg.solve(ridged[np.ix_(terms, terms)], scaled[terms])
            if part.min() >= 0 and scaled[terms] @ part > best_value:
                best, best_value = np.zeros(count), float(scaled[terms] @ part)
                best[terms] = part
        if size == count and best_value > 0:
            break
    return [float(value) for value in best / scale]
