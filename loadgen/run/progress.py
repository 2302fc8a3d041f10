"""Progress of a run: a live table in a terminal, plain lines elsewhere."""

import time
from collections import deque
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from loadgen.client.streaming import Client
from loadgen.metrics.summary import spread, ttft_ms
from loadgen.run.drive import RunState

LATELY: Final = 200  # requests
PLAIN_S: Final = 5.0
TERMINAL_S: Final = 0.25


class Progress:
    """Use as a context; call it now and then."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self.every_s = TERMINAL_S if console.is_terminal else PLAIN_S
        self._live = Live(console=console, transient=True) if console.is_terminal and not quiet else None
        self._course: RunState | None = None
        self._seen = self._tokens = self._errors = 0  # of the records of this course that have ended
        self._speeds: deque[tuple[float, int]] = deque(maxlen=round(5 / TERMINAL_S))

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, course: RunState, client: Client) -> None:
        """Show what there is now. Another course begins anew."""
        if self._quiet:
            return
        if course is not self._course:
            self._course, self._seen, self._tokens, self._errors = course, 0, 0, 0
            self._speeds.clear()
        shown = self._figures(course, client)
        if self._live:
            self._live.update(_table(shown))
        else:
            self._console.print("  ".join(f"{name} {value}" for name, value in shown.items()), soft_wrap=True)

    def _figures(self, course: RunState, client: Client) -> dict[str, str]:
        now = time.perf_counter()
        for record in course.records[self._seen :]:
            self._tokens += record.count
            self._errors += bool(record.error)
        self._seen = len(course.records)
        tokens = self._tokens + sum(record.count for record in client.flying.values())
        self._speeds.append((now, tokens))
        since, before = self._speeds[0]
        recent = [record for record in course.records[-LATELY:] if record.chunks]
        ttft = spread(map(ttft_ms, recent))
        drafted = sum(record.drafted_tokens for record in recent)
        accepted = sum(record.accepted_tokens for record in recent)
        shown = {
            "time": f"{max(0.0, now - course.started):.0f} s",
            "sent": f"{course.sent}" + (f" of {course.wanted}" if course.wanted else ""),
            "in flight": str(len(client.flying)),
            "done": str(len(course.records)),
            "errors": str(self._errors),
            "tok/s": f"{(tokens - before) / (now - since):.1f}" if now > since else "–",
            "TTFT p50": f"{ttft.median:.0f} ms" if ttft.count else "–",
            "p99": f"{ttft.p99:.0f} ms" if ttft.count else "–",
        }
        if drafted:
            shown["accepted"] = f"{100 * accepted / drafted:.0f} % of drafted"
        return shown


def _table(shown: dict[str, str]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for _ in shown:
        table.add_column(justify="right")
    table.add_row(*(f"[dim]{name}[/]" for name in shown))
    table.add_row(*shown.values())
    return table
