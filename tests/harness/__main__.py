"""`python -m tests.harness`: every single fault, then mixtures. Minutes; the tests play a sample of it.

Exit code 1 when any scenario does not come out right; each is printed so that it can be played alone.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace

import structlog

from tests.harness.cases import PLAIN, TWO_VERIFIERS, mixture, single_faults
from tests.harness.judge import play
from tests.harness.scenario import Scenario


def scenarios(mixtures: int, first: int) -> Iterator[Scenario]:
    """All of them."""
    for plain in (PLAIN, TWO_VERIFIERS):
        for fault, _ in single_faults(plain):
            yield replace(plain, faults=(fault,))
    for seed in range(first, first + mixtures):
        yield mixture(seed)


def main() -> int:
    """Play all; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness", description=__doc__)
    parser.add_argument("--mixtures", type=int, default=1000, help="mixtures of faults")
    parser.add_argument("--first", type=int, default=0, help="seed of the first mixture")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    played = failed = 0
    for scenario in scenarios(options.mixtures, options.first):
        played += 1
        try:
            play(scenario)
        except Exception as error:
            failed += 1
            print(f"{scenario}\n    {type(error).__name__}: {error}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{played} played, {failed} failed", end="", file=sys.stderr)
    print(f"{played} played, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
