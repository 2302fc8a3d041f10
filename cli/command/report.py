"""What a person sees while models come in: lines, and a bar on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.command.sizes import ByteProgress, human_size, no_progress


class Report:
    """Plain lines on any output; progress bars on a terminal only."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[ByteProgress]:
        """Show `what` going from 0 to total bytes; yields the function to call with bytes done."""
        if not self.console.is_terminal:
            self.say(f"{what} ({human_size(total)})")
            yield no_progress
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.advance(task, done)
        self.say(f"{what} ({human_size(total)})")
