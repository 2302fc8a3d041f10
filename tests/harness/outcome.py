"""Plays one scenario in this process, with a limit of CPU time, and says what came of it."""

import ast
import hashlib
import logging
import re
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

import structlog

from simulator.faults import Fault
from tests.harness.judge import play
from tests.harness.scenario import Clock, Cut, Death, Full, Pause, Scenario, Stop, Switch

LIMIT_S: Final = 120  # of CPU time
KINDS: Final[Mapping[str, Any]] = {
    kind.__name__: kind for kind in (Scenario, Fault, Death, Stop, Cut, Pause, Full, Switch, Clock)
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """error: "" = it came out right. met: what befell it, by kind. digest: of everything that the processes did."""

    scenario: Scenario
    error: str
    cpu_s: float
    virtual_s: float = 0.0
    met: Counter[str] = field(default_factory=Counter)
    digest: str = ""

    @property
    def kind(self) -> str:
        """The error without what differs from one scenario to the next."""
        return re.sub(
            r"[\d.]+", "#", re.split(r"[:(\[{'\"]", self.error.removeprefix("AssertionError: "))[0]
        ).strip()


class _TooLong(SystemExit):
    """Ends a scenario wherever it is; asyncio lets it pass."""


def _too_long(signum: int, frame: FrameType | None) -> None:
    raise _TooLong(f"more than {LIMIT_S} s of CPU time")


def outcome_of(scenario: Scenario) -> Outcome:
    """Play it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    began = time.process_time()
    try:
        world = play(scenario)
    except (Exception, _TooLong) as error:
        return Outcome(scenario, f"{type(error).__name__}: {error}", time.process_time() - began)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    digest = hashlib.sha256(repr(world.history()).encode()).hexdigest()
    return Outcome(scenario, "", time.process_time() - began, world.ended_s, world.met, digest)


def read_scenario(text: str) -> Scenario:
    """A scenario from its repr. Raises ValueError."""
    try:
        made = _made(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"not a scenario: {error}") from None
    if not isinstance(made, Scenario):
        raise ValueError("not a scenario: give Scenario(...)")
    return made


def _made(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in KINDS:
            named = {keyword.arg or "": _made(keyword.value) for keyword in node.keywords}
            return KINDS[name](*map(_made, node.args), **named)
        case ast.Tuple():
            return tuple(map(_made, node.elts))
    return ast.literal_eval(node)
