"""What the scheduler learns while serving: acceptance, devices' speed and delay, the verifier's cost law.

Every estimate starts from a prior and forgets: old observations fade by `decay` each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from shared.planning.cost import Packed, Row
from shared.planning.least_squares import nonnegative

# What a verifier costs before anybody has measured it: a small model on a few cores. Its scale is learnt at once.
DEFAULT_LAW: Final = Packed(beta_ms=30.0, per_token_ms=1.5, per_context_ms=0.003)
DEFAULT_HOP_MS: Final = 2.0
PRIOR_OBSERVATIONS: Final = 16.0  # what others say of a session beforehand, in observations
DEVICE_PRIOR_OBSERVATIONS: Final = 64.0  # and what earlier sessions of its own device do
MAX_DRAFT_S: Final = 60.0  # a token; a device that says more is not believed
MAX_LINK_S: Final = 60.0
CLOCK_SLACK_S: Final = 0.05  # by which a device's clock and ours may differ over a draft
DEVIATION: Final = 1.25  # a standard deviation over a mean deviation


@dataclass(slots=True)
class Acceptance:
    """α of one session: accepted / (accepted + rounds that ended in a rejection).

    expected: what others on the same device, or on any, came to; known: how many observations that counts.
    """

    expected: float = 0.7
    prior_weight: float = PRIOR_OBSERVATIONS
    accepted: float = 0.0
    rejected: float = 0.0
    decay: float = 0.99  # a round

    @property
    def alpha(self) -> float:
        """The chance that a drafted token is accepted."""
        return (self.prior_weight * self.expected + self.accepted) / (self.prior_weight + self.seen)

    @property
    def seen(self) -> float:
        """Observations of its own, faded ones for less."""
        return self.accepted + self.rejected

    def observe(self, drafted: int, accepted: int) -> None:
        """One verified round; a round without a draft says nothing."""
        if drafted == 0:
            return
        self.accepted = self.decay * self.accepted + accepted
        self.rejected = self.decay * self.rejected + (accepted < drafted)


@dataclass(slots=True)
class Mean:
    """An exponentially fading mean; the prior counts until the first observation."""

    value: float
    weight: float = 0.2  # of the newest observation
    seen: int = 0

    def observe(self, value: float) -> None:
        """Take one more."""
        self.seen += 1
        self.value += (value - self.value) * max(self.weight, 1 / self.seen)


@dataclass(slots=True)
class WindowMin:
    """The least of the last 32 to 64 observations; None before the first."""

    WINDOW: ClassVar[int] = 32
    value: float | None = None
    _current_min: float = inf  # since the window last turned
    _seen: int = 0

    def observe(self, value: float) -> None:
        """Take one more."""
        self._current_min = min(self._current_min, value)
        self._seen += 1
        self.value = value if self.value is None else min(self.value, value)
        if self._seen % self.WINDOW == 0:
            self.value, self._current_min = self._current_min, inf


@dataclass(slots=True)
class DeviceEstimate:
    """One device: seconds per drafted token, and of the links with its waiting (verdict there, draft back).

    delay_s is the links' own part: a turnaround that waited for nothing else is the shortest (min-RTT, as in BBR).
    """

    draft_s: Mean = field(default_factory=lambda: Mean(0.01))
    link_s: Mean = field(default_factory=lambda: Mean(0.002, weight=0.08))
    delay_s: WindowMin = field(default_factory=WindowMin)
    alpha: Mean | None = None  # of its sessions, once there were any
    spread_s: Mean = field(
        default_factory=lambda: Mean(0.0, weight=0.08)
    )  # of link_s: about its standard deviation

    def expect(self, draft_s: float, link_s: float) -> None:
        """What the device says of itself, until there is something to go by. Figures that cannot be are ValueErrors."""
        if not (0 <= draft_s <= MAX_DRAFT_S and 0 <= link_s <= MAX_LINK_S):
            raise ValueError(f"{draft_s} s a token, link {link_s} s")
        if not self.draft_s.seen and draft_s:
            self.draft_s.value, self.link_s.value = draft_s, link_s

    def observe(self, tokens: int, draft_s: float, turnaround_s: float) -> None:
        """One draft: its length, its computing time, and the time from verdict to draft as the scheduler saw it.

        Not a session's first, for which the device may have had to read the prompt. A device that says it has
        computed for longer than it was away is taken at the latter, and is a ValueError.
        """
        if tokens == 0:
            return
        computed_s = min(max(draft_s, 0.0), turnaround_s)
        link_s = turnaround_s - computed_s
        self.draft_s.observe(computed_s / tokens)
        if self.link_s.seen:
            self.spread_s.observe(DEVIATION * abs(link_s - self.link_s.value))
        self.link_s.observe(link_s)
        self.delay_s.observe(link_s)
        if not 0 <= draft_s <= turnaround_s + CLOCK_SLACK_S:
            raise ValueError(f"{draft_s} s of drafting in {turnaround_s} s")

    def turnaround_s(self, k: int) -> float:
        """Expected time from a verdict to its draft of k tokens."""
        return self.link_s.value + k * self.draft_s.value


class _Passes:
    """Passes as least squares takes them, on (1, Σ new, Σ cached tokens); relative errors count, old passes fade."""

    # What a prior is asked about: 1, new, cached.
    SHAPES: Final = np.array([[1.0, n, c] for n in (1, 8, 32, 96) for c in (64, 4096)])

    def __init__(self, prior: Packed, weight: float, decay: float) -> None:
        self.count = 0
        self._prior, self._weight, self._decay = prior, weight / len(self.SHAPES), decay
        self._gram: npt.NDArray[np.float64] = np.zeros((3, 3))
        self._moment: npt.NDArray[np.float64] = np.zeros(3)
        self._scale: npt.NDArray[np.float64] = np.zeros(2)  # Σ observed and Σ 1, over what the prior says

    def observe(self, rows: Sequence[Row], verify_ms: float) -> None:
        """One more."""
        x = np.array([1.0, sum(n for n, _ in rows), sum(c for _, c in rows)]) / verify_ms
        self._gram = self._decay * self._gram + np.outer(x, x)
        self._moment = self._decay * self._moment + x
        self._scale = self._decay * self._scale + [verify_ms / self._prior.cost_ms(rows), 1.0]
        self.count += 1

    def law(self) -> Packed:
        """Of the passes there were, at least one."""
        prior = self._prior
        scale = self._scale[0] / self._scale[1]
        theta = scale * np.array([prior.beta_ms, prior.per_token_ms, prior.per_context_ms])
        shapes = self.SHAPES / (self.SHAPES @ theta)[:, None]
        gram, moment = self._weight * shapes.T @ shapes, self._weight * shapes.sum(axis=0)
        return Packed(*nonnegative(self._gram + gram, self._moment + moment))


class VerifyCost:
    """What a pass costs: a law fitted to passes, and what a draft that comes meanwhile adds (arrival_ms).

    Passes that are all alike say little about a law: what they leave open is taken from a prior, of which they set the
    scale. Passes of a few tokens run other code on a CPU, faster than the line through all others says: they only
    count where there are no others. The law is of passes during which no draft came, once there are some; the price of
    drafts that come is what it leaves unexplained of the others. (Fitted together, the two could not be told apart
    where as many come in every pass.)
    """

    MIN_PASSES: Final = 6  # passes before there is a law of their own
    MIN_TOKENS: Final = 4  # tokens; passes of fewer are others
    REFIT_ALWAYS: Final = 64  # fitted after each pass up to here
    REFIT_EVERY: Final = 8  # then after so many
    DEFAULT_WEIGHT: Final = 3.0  # what an unmeasured prior counts, in passes
    MEASURED_WEIGHT: Final = 30.0  # and a measured one

    def __init__(self, prior: Packed | None = None, decay: float = 0.995) -> None:
        self._prior, self._decay = prior or DEFAULT_LAW, decay
        weight = self.MEASURED_WEIGHT if prior else self.DEFAULT_WEIGHT
        self._all, self._wide, self._undisturbed = (_Passes(self._prior, weight, decay) for _ in range(3))
        self._unexplained = np.zeros(2)  # Σ came · unexplained and Σ came², relatively
        self._law: Packed | None = None

    def observe(self, rows: Sequence[Row], verify_ms: float, arrivals: int = 0) -> None:
        """One pass: what was in it and what it took, and how many drafts came while it ran."""
        if verify_ms <= 0:
            return
        self._all.observe(rows, verify_ms)
        if sum(new for new, _ in rows) >= self.MIN_TOKENS:
            self._wide.observe(rows, verify_ms)
            if arrivals == 0:
                self._undisturbed.observe(rows, verify_ms)
            elif self._law is not None:
                unexplained = verify_ms - self._law.cost_ms(rows)
                self._unexplained = (
                    self._decay * self._unexplained
                    + np.array([arrivals * unexplained, arrivals**2]) / verify_ms**2
                )
        seen = self._all.count
        # Fitted now, while devices draft, and not when a batch is to be closed; an old law hardly moves.
        if self.MIN_PASSES <= seen < self.REFIT_ALWAYS or (
            seen >= self.REFIT_ALWAYS and seen % self.REFIT_EVERY == 0
        ):
            enough = (passes for passes in (self._undisturbed, self._wide) if passes.count >= self.MIN_PASSES)
            self._law = next(enough, self._all).law()

    @property
    def arrival_ms(self) -> float:
        """What a draft that comes during a pass adds to it; 0.0 until one has."""
        return max(0.0, float(self._unexplained[0] / self._unexplained[1])) if self._unexplained[1] else 0.0

    def law(self) -> Packed | None:
        """The fitted law; None before there is enough to go by. No coefficient is negative."""
        return self._law

    def expected(self) -> Packed:
        """The fitted law, or the prior until there is one."""
        return self._law or self._prior
