"""Progress of model downloads: lines of text, and a bar on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.command.sizes import ByteProgress, human_size, no_progress


class Report:
    """Prints plain lines on any output, and progress bars on a terminal only."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[ByteProgress]:
        """Show a bar from 0 to total bytes. Yields a function to call with the bytes done since its last call."""
        if not self.console.is_terminal:
            self.say(f"{label} ({human_size(total)})")
            yield no_progress
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield lambda done: progress.advance(task, done)
        self.say(f"{label} ({human_size(total)})")
