"""Progress of one simulated run, by the wall clock: a live line in a terminal, lines of text elsewhere."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console

from loadgen.run.drive import RunState
from loadgen.run.progress import Progress
from simulator.client import SimulatedClient


class RunProgress:
    """Shows virtual time, requests, and how much faster than real time a run is. Use as a context, as an observer.

    speed: virtual seconds of the load / wall-clock seconds, so far.
    """

    def __init__(self, console: Console, name: str, quiet: bool = False) -> None:
        self.speed = 0.0
        self._console, self._name, self._quiet = console, name, quiet
        self._progress = Progress(console, quiet, self._more)
        self._began = self._shown = time.perf_counter()

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def __call__(self, state: RunState, client: SimulatedClient) -> None:
        """Show the state of the run, if it is time."""
        now = time.perf_counter()
        if not state.started:
            self._began = now
        elif now > self._began:
            self.speed = (client.now() - state.started) / (now - self._began)
        if self._quiet or now < self._shown + self._progress.every_s:
            return
        self._shown = now
        if state.started:
            self._progress(state, client)
        else:
            self._console.print(f"{self._name}: its processes start", soft_wrap=True, highlight=False)

    def _more(self) -> Mapping[str, str]:
        return {"× real": f"{self.speed:.1f}", "run": self._name}
