"""Progress of a run: a live table in a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from loadgen.client.chat_client import ChatClient
from loadgen.metrics.summary import spread, ttft_ms
from loadgen.run.drive import RunState

RECENT: Final = 200  # requests that latencies are shown of
PLAIN_S: Final = 5.0
TERMINAL_S: Final = 0.25


class Progress:
    """Shows a run's progress. Use as a context and call it every `every_s` seconds."""

    def __init__(
        self, console: Console, quiet: bool = False, more: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        """more: further columns by heading."""
        self._console, self._quiet, self._more = console, quiet, more
        self.every_s = TERMINAL_S if console.is_terminal else PLAIN_S
        self._live = Live(console=console, transient=True) if console.is_terminal and not quiet else None
        self._state: RunState | None = None
        self._seen = self._tokens = self._errors = 0  # of the records of this run that have ended
        self._speeds: deque[tuple[float, int]] = deque(maxlen=round(5 / TERMINAL_S))

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, state: RunState, client: ChatClient) -> None:
        """Show the current state. Another run starts from zero."""
        if self._quiet:
            return
        if state is not self._state:
            self._state, self._seen, self._tokens, self._errors = state, 0, 0, 0
            self._speeds.clear()
        columns = {**self._columns(state, client), **self._more()}
        if self._live:
            self._live.update(_table(columns))
        else:
            self._console.print(
                "  ".join(f"{name} {value}" for name, value in columns.items()), soft_wrap=True
            )

    def _columns(self, state: RunState, client: ChatClient) -> dict[str, str]:
        now = client.now()
        for record in state.records[self._seen :]:
            self._tokens += record.count
            self._errors += bool(record.error)
        self._seen = len(state.records)
        tokens = self._tokens + sum(record.count for record in client.in_flight.values())
        self._speeds.append((now, tokens))
        since, before = self._speeds[0]
        recent = [record for record in state.records[-RECENT:] if record.chunks]
        ttft = spread(map(ttft_ms, recent))
        drafted = sum(record.drafted_tokens for record in recent)
        accepted = sum(record.accepted_tokens for record in recent)
        columns = {
            "time": f"{max(0.0, now - state.started):.0f} s",
            "sent": f"{state.sent}" + (f" of {state.total}" if state.total else ""),
            "in flight": str(len(client.in_flight)),
            "done": str(len(state.records)),
            "errors": str(self._errors),
            "tok/s": f"{(tokens - before) / (now - since):.1f}" if now > since else "–",
            "TTFT p50": f"{ttft.median:.0f} ms" if ttft.count else "–",
            "p99": f"{ttft.p99:.0f} ms" if ttft.count else "–",
        }
        if drafted:
            columns["accepted"] = f"{100 * accepted / drafted:.0f} % of drafted"
        return columns


def _table(columns: dict[str, str]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for _ in columns:
        table.add_column(justify="right")
    table.add_row(*(f"[dim]{name}[/]" for name in columns))
    table.add_row(*columns.values())
    return table
