"""`make fuzz-sim MINUTES=10`: seeds of faults, played in parallel processes until the time is over.

    python -m tests.harness.fuzz --minutes 10 --first 0 --jobs 2
    python -m tests.harness.fuzz --seed 4711               # exactly that run again, its errors in full
    python -m tests.harness.fuzz --scenario 'Scenario(…)'  # a smaller one, as printed

Each seed chooses a whole scenario (seeds.py), which is judged by the promises of docs/architecture.md (judge.py). A
seed that fails is printed with the command that plays it again; then it is shrunk and the smallest scenario printed.
Exit code 1 when any failed.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from shared.runtime.service import collect_seldom
from tests.harness.outcome import Outcome, outcome_of, read_scenario
from tests.harness.scenario import Scenario
from tests.harness.seeds import scenario_of
from tests.harness.shrink import shrink

COMMAND: Final = "python -m tests.harness.fuzz"
PROGRESS_S: Final = 10.0
AHEAD: Final = 4  # seeds given to each process


def played(seed: int) -> tuple[int, Outcome]:
    """The outcome of a seed."""
    return seed, outcome_of(scenario_of(seed))


@dataclass(slots=True)
class Tally:
    """What has been played."""

    began: float = field(default_factory=time.monotonic)
    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    met: Counter[str] = field(default_factory=Counter)
    printed_at: float = field(default_factory=time.monotonic)

    def add(self, seed: int, outcome: Outcome) -> None:
        """Count a seed."""
        self.seeds += 1
        self.virtual_s += outcome.virtual_s
        self.cpu_s += outcome.cpu_s
        self.met.update(outcome.met)
        if outcome.error:
            self.failed.append(seed)

    def progress(self, last: bool = False) -> None:
        """Print a line now and then."""
        now = time.monotonic()
        if last or now > self.printed_at + PROGRESS_S:
            self.printed_at = now
            met = ", ".join(f"{number} {kind}" for kind, number in sorted(self.met.items()))
            print(
                f"{self.seeds} seeds in {now - self.began:.0f} s ({self.cpu_s:.0f} s of CPU time, "
                f"{self.virtual_s / 3600:.1f} h of virtual time), {len(self.failed)} failed; met: {met or 'nothing'}",
                flush=True,
            )


def main() -> int:
    """Play; the exit code."""
    options = _options()
    if options.scenario or options.seed is not None:
        scenario = read_scenario(options.scenario) if options.scenario else scenario_of(options.seed)
        return _play_one(scenario, options.shrink_s)
    tally = Tally()
    for seed, outcome in _outcomes(options.first, options.count, 60 * options.minutes, options.jobs):
        tally.add(seed, outcome)
        if outcome.error:
            print(f"seed {seed} failed: {outcome.error}\n  again: {COMMAND} --seed {seed}", flush=True)
            _shrink(outcome, options.shrink_s)
        tally.progress()
    tally.progress(last=True)
    if tally.failed:
        print(f"failed: {' '.join(map(str, tally.failed))}")
    return 1 if tally.failed else 0


def _outcomes(first: int, number: int, limit_s: float, jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Outcomes as they come: of `number` seeds, or of as many as are begun within the time."""
    end = time.monotonic() + limit_s
    seeds = iter(range(first, first + number)) if number else count(first)
    running: set[Future[tuple[int, Outcome]]] = set()
    with ProcessPoolExecutor(jobs, initializer=collect_seldom) as pool:
        try:
            while True:
                while len(running) < AHEAD * jobs and time.monotonic() < end:
                    seed = next(seeds, None)
                    if seed is None:
                        break
                    running.add(pool.submit(played, seed))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def _play_one(scenario: Scenario, shrink_s: float) -> int:
    outcome = outcome_of(scenario)
    print(
        f"{scenario!r}\n{outcome.error or 'as it has to be'}, {outcome.cpu_s:.2f} s, digest {outcome.digest}"
    )
    if outcome.error:
        _shrink(outcome, shrink_s)
    return 1 if outcome.error else 0


def _shrink(outcome: Outcome, limit_s: float) -> None:
    """Shrink a failure and print the smallest scenario that fails in the same way."""
    end = time.monotonic() + limit_s
    if limit_s <= 0:
        return
    last = outcome

    def fails(scenario: Scenario) -> bool:
        nonlocal last
        tried = outcome_of(scenario)
        if tried.kind != outcome.kind:
            return False
        last = tried
        return True

    smallest = shrink(outcome.scenario, fails, lambda: time.monotonic() > end)
    print(f'  smallest found: {last.error}\n  again: {COMMAND} --scenario "{smallest!r}"', flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Plays seeds of faults; see docs/notes/fault-seeds.md."
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="begin no seed after this time (default 10)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed; the others follow (default 0)")
    parser.add_argument(
        "--count", type=int, default=0, help="play so many seeds, within the time; 0 = no limit"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--shrink-s", type=float, default=60.0, help="seconds to shrink a failure; 0 = do not"
    )
    parser.add_argument("--seed", type=int, help="play this seed alone")
    parser.add_argument("--scenario", help="play this scenario alone: Scenario(…) as printed")
    options = parser.parse_args()
    if options.jobs < 1 or options.minutes <= 0 or options.count < 0:
        parser.error("--jobs has to be 1 at least, --minutes above 0, --count 0 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
