"""Estimates that the scheduler makes while serving: acceptance, speed and delay of devices, the cost law.

Every estimate starts from a prior. Each new observation multiplies the weight of the old ones by `decay`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import ClassVar, Final

import numpy as np

from shared.planning.calibration import OWN_WORD, Calibration
from shared.planning.cost import Packed, Row, Shape
from shared.planning.least_squares import nonnegative
from shared.planning.link_fit import LinkFit

# The cost law before any measurement: a small model on a few cores. The first passes correct its scale.
DEFAULT_LAW: Final = Packed(beta_ms=30.0, per_token_ms=1.5, per_context_ms=0.003)
DEFAULT_HOP_MS: Final = 2.0
PRIOR_OBSERVATIONS: Final = 16.0  # observations that a prior from other devices' sessions counts for
DEVICE_PRIOR_OBSERVATIONS: Final = (
    64.0  # observations that a prior from the same device's sessions counts for
)
MAX_DRAFT_S: Final = 60.0  # per token; a device that reports more is not believed
MAX_LINK_S: Final = 60.0
CLOCK_SLACK_S: Final = 0.05  # difference of a device's clock and ours over a draft, at most
# A device's report of its link has changed when the median of three differs by so much, in seconds and as a share.
JUMP_S: Final = 0.01
JUMP_SHARE: Final = 0.3
DEVIATION: Final = 1.25  # standard deviation divided by mean absolute deviation, about


@dataclass(slots=True)
class Acceptance:
    """α of one session: accepted / (accepted + rounds that ended in a rejection).

    expected: the prior, which is α of sessions of the same device, or of all. prior_weight: observations that the prior
    counts for. decay: per round.
    """

    expected: float = 0.7
    prior_weight: float = PRIOR_OBSERVATIONS
    accepted: float = 0.0
    rejected: float = 0.0
    decay: float = 0.99

    @property
    def alpha(self) -> float:
        """The probability that a drafted token is accepted."""
        seen = self.accepted + self.rejected
        return (self.prior_weight * self.expected + self.accepted) / (self.prior_weight + seen)

    @property
    def seen(self) -> float:
        """The number of own observations, faded."""
        return self.accepted + self.rejected

    def tokens(self, k: int) -> float:
        """Expected tokens of a round with a draft of k: (1 − α^(k + 1))/(1 − α)."""
        return float(sum(self.alpha**depth for depth in range(k + 1)))

    def observe(self, drafted: int, accepted: int) -> None:
        """Add a verified round. A round without a draft is ignored."""
        if drafted == 0:
            return
        self.accepted = self.decay * self.accepted + accepted
        self.rejected = self.decay * self.rejected + (accepted < drafted)


@dataclass(slots=True)
class Mean:
    """An exponentially fading mean. `value` is the prior until the first observation.

    weight: of the newest observation.
    """

    value: float
    weight: float = 0.2
    seen: int = 0

    def observe(self, value: float) -> None:
        """Add an observation."""
        self.seen += 1
        self.value += (value - self.value) * max(self.weight, 1 / self.seen)


@dataclass(slots=True)
class WindowMin:
    """The minimum of the last 32 to 64 observations; None before the first."""

    WINDOW: ClassVar[int] = 32
    value: float | None = None
    _current_min: float = inf  # since the current window began
    _seen: int = 0

    def observe(self, value: float) -> None:
        """Add an observation."""
        self._current_min = min(self._current_min, value)
        self._seen += 1
        self.value = value if self.value is None else min(self.value, value)
        if self._seen % self.WINDOW == 0:
            self.value, self._current_min = self._current_min, inf


@dataclass(slots=True)
class DeviceEstimate:
    """Estimates of one device.

    draft_s: seconds per drafted token. link_s: both directions of the link, with queueing. spread_s: standard deviation
    of link_s, about. second: that its second candidate is right where its first is not. delay_s: propagation delay
    alone, the minimum of link_s (min-RTT, as in BBR). alpha: mean over its sessions; None before the first. greedy,
    sampled: what its survival bytes are worth at temperature 0 and above. link: delay and rate by message sizes.
    rate_bits_s: the rate to reckon with, see LinkRates; inf = sizes make no difference, None = not known.
    """

    draft_s: Mean = field(default_factory=lambda: Mean(0.01))
    link_s: Mean = field(default_factory=lambda: Mean(0.002, weight=0.08))
    delay_s: WindowMin = field(default_factory=WindowMin)
    alpha: Mean | None = None
    second: Mean = field(default_factory=lambda: Mean(0.5, weight=0.02))
    spread_s: Mean = field(default_factory=lambda: Mean(0.0, weight=0.08))
    greedy: Calibration = field(default_factory=Calibration)
    sampled: Calibration = field(default_factory=Calibration)
    link: LinkFit = field(default_factory=LinkFit)
    rate_bits_s: float | None = None
    _reports: deque[float] = field(default_factory=lambda: deque(maxlen=3))
    _reported_s: float = 0.0  # what the reports agree on
    _excess_s: float = 0.0  # link_s beyond that, which drafts have shown

    def expect(self, draft_s: float, link_s: float) -> None:
        """Take the device's own report. Raises ValueError for impossible figures.

        Until there are observations, it is the estimate. Later only a change of the link that it reports counts: a
        session that does not draft would not find out that the link is shorter now.
        """
        if not (0 <= draft_s <= MAX_DRAFT_S and 0 <= link_s <= MAX_LINK_S):
            raise ValueError(f"{draft_s} s a token, link {link_s} s")
        if not self.draft_s.seen and draft_s:
            self.draft_s.value, self.link_s.value = draft_s, link_s
        self._reports.append(link_s)
        level_s = median(self._reports)
        if self._differs(level_s):
            if self.link_s.seen:
                self.link_s.value = max(0.0, level_s + self._excess_s)
            self._reported_s = level_s
        if not self._differs(link_s):  # else the link may have changed, and drafts over it as well
            self._excess_s = self.link_s.value - self._reported_s

    def _differs(self, report_s: float) -> bool:
        return abs(report_s - self._reported_s) > max(JUMP_S, JUMP_SHARE * self._reported_s)

    def observe(
        self, tokens: int, draft_s: float, turnaround_s: float, reading: bool = False, size: int = 0
    ) -> bool:
        """Add a draft: its tokens, its reported computing time, and the time from verdict to draft at the scheduler.

        size: bytes of verdict and draft; 0 = not known. reading: it first had to read tokens that were emitted without
        its drafts, so that only its link can be learnt. The first draft of a session must be left out, because the
        device may have read the prompt for it. A reported time beyond the turnaround is cut to the turnaround, and then
        raises ValueError. Returns whether `link` has a new law.
        """
        if tokens == 0:
            return False
        computed_s = min(max(draft_s, 0.0), turnaround_s)
        link_s = turnaround_s - computed_s
        if not reading:
            self.draft_s.observe(computed_s / tokens)
        if self.link_s.seen:
            self.spread_s.observe(DEVIATION * abs(link_s - self.link_s.value))
        self.link_s.observe(link_s)
        self.delay_s.observe(link_s)
        if not 0 <= draft_s <= turnaround_s + CLOCK_SLACK_S:
            raise ValueError(f"{draft_s} s of drafting in {turnaround_s} s")
        return size > 0 and self.link.observe(size, link_s)

    def comm_s(self, size: int) -> float:
        """Expected seconds for a verdict and a draft of `size` bytes together; link_s where sizes were not seen to
        matter."""
        law = self.link.law
        return law.comm_s(size) if law and law.s_per_byte > 0 else self.link_s.value

    @property
    def fixed_s(self) -> float:
        """Seconds of its link, there and back, whatever the sizes: as learnt, or as the device reports them."""
        law = self.link.law
        return law.delay_s if law and law.s_per_byte > 0 else self._reported_s

    def calibration(self, temperature: float) -> Calibration:
        """Of its drafts at this temperature."""
        return self.sampled if temperature > 0 else self.greedy

    @property
    def overconfidence(self) -> float | None:
        """By how much likelier it thinks its drafted tokens than they are accepted, on average; None before any."""
        (greedy, more), (sampled, more_sampled) = self.greedy.excess(), self.sampled.excess()
        tokens = greedy + sampled
        return (more + more_sampled) / tokens if tokens else None

    def survival_curve(self, temperature: float | None) -> tuple[float, ...]:
        """What its survival bytes are worth, see Calibration.curve. temperature: None = not known."""
        return OWN_WORD if temperature is None else self.calibration(temperature).curve

    def turnaround_s(self, k: int) -> float:
        """Expected seconds from a verdict to the draft of k tokens."""
        return self.link_s.value + k * self.draft_s.value


class _Passes:
    """Sums for a least-squares fit of passes on (1, Σ new, Σ cached tokens). Errors are relative; old passes fade."""

    # Shapes at which the prior stands in for passes: 1, new, cached. [shapes, 3]
    SHAPES: Final = np.array([[1.0, n, c] for n in (1, 8, 32, 96) for c in (64, 4096)])

    def __init__(self, prior: Packed, weight: float, decay: float) -> None:
        self.count = 0
        self._prior, self._decay = prior, decay
        shapes = (
            self.SHAPES / (self.SHAPES @ [prior.beta_ms, prior.per_token_ms, prior.per_context_ms])[:, None]
        )
        weight /= len(shapes)
        self._prior_gram = (weight * shapes.T @ shapes).tolist()  # of a prior that is right
        self._prior_moment = (weight * shapes.sum(axis=0)).tolist()
        # Lists, not arrays: NumPy's calls take longer than the sums of three terms.
        self._gram = [[0.0] * 3 for _ in range(3)]
        self._moment = [0.0] * 3
        self._scale = 0.0  # Σ observed / prior
        self._passes = 0.0

    def observe(self, shape: Shape, verify_ms: float) -> None:
        """Add a pass of this shape."""
        keep = self._decay
        x = [1.0 / verify_ms, float(shape.new) / verify_ms, float(shape.cached) / verify_ms]
        self._gram = [
            [keep * old + a * b for old, b in zip(line, x, strict=True)]
            for line, a in zip(self._gram, x, strict=True)
        ]
        self._moment = [keep * old + a for old, a in zip(self._moment, x, strict=True)]
        self._scale = keep * self._scale + verify_ms / float(self._prior.pass_ms(shape))
        self._passes = keep * self._passes + 1.0
        self.count += 1

    def law(self) -> Packed:
        """The law fitted to the passes, of which there must be one."""
        scale = self._scale / self._passes
        gram = [
            [a + b / scale**2 for a, b in zip(line, prior, strict=True)]
            for line, prior in zip(self._gram, self._prior_gram, strict=True)
        ]
        moment = [a + b / scale for a, b in zip(self._moment, self._prior_moment, strict=True)]
        return Packed(*nonnegative(gram, moment))


class VerifyCost:
    """The cost of a pass: a law fitted to passes, and the time that a draft arriving during a pass adds to it.

    Passes that are all alike do not determine a law. A prior decides what they leave open, scaled to the passes. On a
    CPU, passes of a few tokens run other code, which is faster than the line through all others. They count only
    while there are no others. Once there are enough passes without arrivals, the law is fitted to those alone.
    arrival_ms is what it leaves unexplained of the other passes. (Fitted together, the two could not be told apart
    where every pass has the same number of arrivals.)
    """

    MIN_PASSES: Final = 6  # before the first fit
    MIN_TOKENS: Final = 4  # passes with fewer tokens run other code
    REFIT_ALWAYS: Final = 64  # up to so many passes the law is fitted after each pass
    REFIT_EVERY: Final = 8  # and then after so many
    DEFAULT_WEIGHT: Final = 3.0  # passes that an unmeasured prior counts for
    MEASURED_WEIGHT: Final = 30.0  # passes that a measured prior counts for

    def __init__(self, prior: Packed | None = None, decay: float = 0.995) -> None:
        self._prior, self._decay = prior or DEFAULT_LAW, decay
        weight = self.MEASURED_WEIGHT if prior else self.DEFAULT_WEIGHT
        self._all, self._wide, self._undisturbed = (_Passes(self._prior, weight, decay) for _ in range(3))
        self._unexplained = np.zeros(2)  # Σ arrivals · unexplained and Σ arrivals², relative to the pass
        self._law: Packed | None = None

    def observe(self, rows: Sequence[Row], verify_ms: float, arrivals: int = 0) -> None:
        """Add a pass: its rows, its time, and the number of drafts that arrived while it ran."""
        if verify_ms <= 0:
            return
        shape = Shape.of(rows)
        self._all.observe(shape, verify_ms)
        if shape.new >= self.MIN_TOKENS:
            self._wide.observe(shape, verify_ms)
            if arrivals == 0:
                self._undisturbed.observe(shape, verify_ms)
            elif self._law is not None:
                unexplained = verify_ms - self._law.cost_ms(rows)
                self._unexplained = (
                    self._decay * self._unexplained
                    + np.array([arrivals * unexplained, arrivals**2]) / verify_ms**2
                )
        seen = self._all.count
        # Fitting here, while devices draft, keeps it out of the closing of a batch. A mature law hardly changes.
        if self.MIN_PASSES <= seen < self.REFIT_ALWAYS or (
            seen >= self.REFIT_ALWAYS and seen % self.REFIT_EVERY == 0
        ):
            enough = (passes for passes in (self._undisturbed, self._wide) if passes.count >= self.MIN_PASSES)
            self._law = next(enough, self._all).law()

    @property
    def arrival_ms(self) -> float:
        """Milliseconds that a draft adds to the pass during which it arrives; 0.0 before the first."""
        return max(0.0, float(self._unexplained[0] / self._unexplained[1])) if self._unexplained[1] else 0.0

    def law(self) -> Packed | None:
        """The fitted law, without negative coefficients; None before there are enough passes."""
        return self._law

    def expected(self) -> Packed:
        """The fitted law, or the prior until there is one."""
        return self._law or self._prior
