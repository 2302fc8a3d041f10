"""What a decision of a window controller takes: `python -m cli.bench.decisions`.

A verifier with its sessions, each of which gets a decision in every batch, as the scheduler asks. Processor time, the
least of several repeats. The mean over 64 batches: some controllers think anew only every few batches.
"""

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console

from cli.command.bench_main import bench_main
from shared.planning.cost import Packed
from shared.planning.views import SessionView
from shared.planning.windows import WINDOW_NAMES, make_window
from shared.planning.windows.window import Load, RoundOutcome, Window

SESSIONS: Final = (1, 16, 64)
BATCHES: Final = 64
REPEATS: Final = 7


def measure() -> None:
    """Print microseconds of processor time for each decision of each window controller, by number of sessions."""
    console = Console()
    console.print(f"{'us a decision':14}" + "".join(f"{count:>6} sessions" for count in SESSIONS))
    for name in WINDOW_NAMES:
        took = [decision_us(name, count) for count in SESSIONS]
        console.print(f"{name:14}" + "".join(f"{one:15.1f}" for one in took))


def decision_us(name: str, count: int) -> float:
    """Mean microseconds of one decision of this controller, rounds it observes included."""
    views = [view(number) for number in range(count)]
    return min(_batches_s(make_window(name), views) for _ in range(REPEATS)) / BATCHES / count * 1e6


def view(number: int) -> SessionView:
    """A session that can draft; no two are alike."""
    alpha, draft_s, link_s = 0.6 + 0.005 * (number % 50), 0.006 + 1e-4 * number, 0.02
    device = f"device-{number}:1"
    return SessionView(f"s{number}", number, "ready", 0.0, 100, 100, 3, True, device, alpha, draft_s, link_s)


def _batches_s(window: Window, views: Sequence[SessionView]) -> float:
    began = time.process_time()
    for step in range(BATCHES):
        load = Load("v", step, Packed(30.0, 1.5, 0.003), len(views), 120.0, views, 0.01)
        for session in views:
            window.observe(session.session, RoundOutcome(4, 4, step % 5, 0.1))
            window.decide(session, load)
    return time.process_time() - began


if __name__ == "__main__":
    bench_main(measure)
