"""All measurements in this process, and the profile made from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cli.calibrate import agreement, drafting, hardware, passes
from cli.calibrate.grid import Grid
from cli.calibrate.pair import CalibratedModel, Pair
from cli.command.errors import CommandError
from shared.planning.fit import Fit, FitError, Timed, fit
from shared.planning.profile import SCHEMA, DraftCosts, Errors, PassBeta, Profile
from shared.planning.server_laws import PackedLaw, PaddedLaw


@dataclass(frozen=True, slots=True)
class Measured:
    """passes: by shape. draft_ms: duration of a decode, by sessions in it. alphas: α by temperature."""

    passes: Sequence[Timed]
    draft_ms: Mapping[int, float]
    alphas: Mapping[float, float]


def steps(grid: Grid) -> int:
    """How often `measure` calls tick."""
    drafts = len(drafting.SESSIONS) * drafting.REPEATS
    return len(agreement.TEMPERATURES) + drafts + passes.steps(grid)


def measure(pair: Pair, grid: Grid, tick: Callable[[str], None]) -> Measured:
    """Measure passes first, since the grid may not fit the model. Raises CommandError."""
    timed = passes.measure_passes(pair.target, grid, tick)
    draft_ms = drafting.measure_decodes(pair.drafter, tick)
    alphas = agreement.measure_alpha(pair.target, pair.drafter, pair.model.folder, tick)
    return Measured(timed, draft_ms, alphas)


def profile_of(model: CalibratedModel, measured: Measured, busy_before: float, *, quick: bool) -> Profile:
    """The profile, without the broker's share. Raises CommandError."""
    try:
        laws = fit(measured.passes, model.layers, model.hidden, model.feed_forward)
    except FitError as error:
        raise CommandError(f"the cost law cannot be fitted: {error}") from None
    return Profile(
        schema=SCHEMA,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=hardware.hardware(),
        busy_before=round(busy_before, 2),
        versions=hardware.versions(),
        model=model.name,
        device=model.device,
        dtype=model.dtype,
        threads=model.threads,
        quick=quick,
        server=_packed(model, laws),
        padded=_padded(model, laws),
        pass_beta_ms=PassBeta(packed=laws.packed.beta_ms, padded=laws.padded.beta_ms),
        errors=Errors(packed=laws.packed_errors, padded=laws.padded_errors),
        draft=DraftCosts(
            ms_per_token=measured.draft_ms[1],
            ms_by_sessions=dict(measured.draft_ms),
            context=drafting.CONTEXT,
            threads=1,
        ),
        alpha=dict(measured.alphas),
        passes={one.name: round(one.ms, 4) for one in measured.passes},
    )


def _packed(model: CalibratedModel, laws: Fit) -> PackedLaw:
    law = laws.packed
    return PackedLaw(
        law="packed",
        beta_ms=law.beta_ms,
        per_token_ms=law.per_token_ms,
        per_context_ms=law.per_context_ms,
        memory_bytes=model.pool_tokens * model.kv_bytes,
        kv_bytes_per_token=model.kv_bytes,
    )


def _padded(model: CalibratedModel, laws: Fit) -> PaddedLaw:
    """memory_bytes: of the weights and the pool's tokens, computed as in the paper."""
    law = laws.padded
    weights = model.layers * (8 * model.hidden**2 + 4 * model.hidden * model.feed_forward)
    return PaddedLaw(
        law="padded",
        layers=model.layers,
        hidden=model.hidden,
        ffn=model.feed_forward,
        c=law.ms_per_operation,
        beta_ms=law.beta_ms,
        memory_bytes=weights + 4 * model.layers * model.hidden * model.pool_tokens,
    )
