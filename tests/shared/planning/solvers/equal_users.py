"""A reference search for the best plan of equal users, independent of the solvers.

A batch of b equal users is worth most for its time with drafts as equal as can be: all as long under the padded law,
the tokens dealt out evenly under the packed one. So a batch has few choices, and for every loop that any of them has
the plans within it are built up user by user.
"""

from itertools import pairwise

from shared.planning.objective import Objective
from shared.planning.problem import PackedServer, Problem, User

Choice = tuple[float, float, float]  # verify time and loop in ms, value


def best_of_equals(problem: Problem, goal: Objective, known_score: float) -> float:
    """The best score. known_score: of some plan, a lower bound that saves time."""
    users, bounds = len(problem.users), problem.bounds
    choices = {size: _choices(problem, goal, size) for size in range(1, users + 1)}
    best, max_value = known_score, goal.value(problem.users[0], bounds.max_draft) * users
    for cycle_bound in sorted({loop for each in choices.values() for _, loop, _ in each}):
        if max_value / cycle_bound <= best:
            break
        within = {
            size: _undominated([(time, value) for time, loop, value in each if loop <= cycle_bound + 1e-9])
            for size, each in choices.items()
        }
        for time, value in _plans(within, users, bounds.min_batches, max_value, best):
            best = max(best, value / max(cycle_bound, time))
    return best


def _choices(problem: Problem, goal: Objective, size: int) -> list[Choice]:
    user, server, min_draft, max_draft = (
        problem.users[0],
        problem.server,
        problem.bounds.min_draft,
        problem.bounds.max_draft,
    )
    if server.needed_bytes(size, user.prefix, size * user.prefix) > server.memory_bytes:
        return []
    packed = isinstance(server, PackedServer)
    drafts = range(size * min_draft, size * max_draft + 1, 1 if packed else size)
    return [_choice(problem, goal, user, size, drafted) for drafted in drafts]


def _choice(problem: Problem, goal: Objective, user: User, size: int, drafted: int) -> Choice:
    length, longer = divmod(drafted, size)
    longest = length + (longer > 0)
    time = float(problem.server.verify_ms(size, longest, drafted, user.prefix, size * user.prefix))
    value = longer * goal.value(user, length + 1) + (size - longer) * goal.value(user, length)
    return time, user.ready_ms(longest) + time, value


def _plans(
    within: dict[int, list[tuple[float, float]]], users: int, batches: int, max_value: float, best: float
) -> list[tuple[float, float]]:
    """(Σ time, Σ value) of undominated plans with at least this many batches."""
    at: dict[tuple[int, int], list[tuple[float, float]]] = {(0, 0): [(0.0, 0.0)]}
    for placed in range(1, users + 1):
        for count in range(batches + 1):
            before = {max(count - 1, 0), count} if count == batches else {count - 1}
            pairs = [
                (time + more, value + worth)
                for earlier in before
                for size in range(1, placed + 1)
                for time, value in at.get((placed - size, earlier), ())
                for more, worth in within[size]
                if max_value / (time + more) > best
            ]
            at[placed, count] = _undominated(pairs)
    return at[users, batches]


def _undominated(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The pairs that no other pair beats in both."""
    kept: list[tuple[float, float]] = []
    for time, value in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not kept or value > kept[-1][1] + 1e-12:
            kept.append((time, value))
    assert all(one[0] <= other[0] for one, other in pairwise(kept))
    return kept
