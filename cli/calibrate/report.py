"""Prints a profile as text and tables."""

from typing import Final

from rich.console import Console
from rich.table import Table

from shared.planning.profile import AtUsers, LawErrors, Profile

# Pass in a running stack over the law's: beyond these the share is not the broker's alone.
ALIKE: Final = (0.9, 1.15)
FAR: Final = 0.1  # mean error beyond which a law says little


def tell(console: Console, profile: Profile) -> None:
    """Laws with their errors, the draft model, the broker's share."""
    server, padded, alone = profile.server, profile.padded, profile.pass_beta_ms
    console.print(
        f"\n{profile.model} in {profile.dtype}, {profile.threads} threads, {profile.device}; ms of a pass:"
    )
    console.print(
        f"  packed: {alone.packed:.3g} + {server.per_token_ms:.3g} · new + {server.per_context_ms:.3g} · cached"
    )
    console.print(f"  padded: {alone.padded:.3g} + {padded.c:.3g} · rows · operations of the longest row")
    console.print("Off by, (law − measured) / measured, on passes that were not fitted on:")
    console.print(_errors({"packed": profile.errors.packed, "padded": profile.errors.padded}))
    if profile.errors.packed.mean > FAR:
        console.print("That is far off: was the machine busy? Measure again while nothing else runs")
    told = ", ".join(f"{ms:.1f} ms with {n}" for n, ms in profile.draft.ms_by_sessions.items())
    console.print(f"Draft model, {profile.draft.threads} thread, a decode by sessions in it: {told}")
    if profile.alpha:
        told = ", ".join(f"{alpha:.2f} at temperature {at:g}" for at, alpha in profile.alpha.items())
        console.print(f"α: {told}")
    if profile.broker:
        console.print("A running stack, everybody in every batch, nobody drafts; ms:")
        console.print(_live(profile.broker.users))
        console.print(
            f"beta_ms for planners: {server.beta_ms:.4g}, of which pass {alone.packed:.4g} and broker "
            f"{profile.broker.batch_ms:.4g}"
        )
        if not all(ALIKE[0] <= one.pass_over_fit <= ALIKE[1] for one in profile.broker.users):
            console.print(
                "Passes did not take as long there as by themselves (pass / law), and the broker's share holds the "
                "difference: measure again while nothing else runs"
            )


def _errors(errors: dict[str, LawErrors]) -> Table:
    table = Table("law", "fitted on", "judged on", "mean", "signed", "worst", "1 token", "2 or 3", box=None)
    for name, law in errors.items():
        table.add_row(
            name,
            str(law.points),
            str(law.held_out),
            f"{law.mean:.1%}",
            f"{law.bias:+.1%}",
            f"{law.worst:+.1%}",
            _percent(law.single_token),
            _percent(law.few_tokens),
        )
    return table


def _percent(error: float | None) -> str:
    return "–" if error is None else f"{error:+.1%}"


def _live(measured: tuple[AtUsers, ...]) -> Table:
    table = Table("users", "batches", "cycle", "beside the law", "beside the pass", "pass / law", box=None)
    for one in measured:
        table.add_row(
            str(one.users),
            str(one.batches),
            f"{one.cycle_ms:.1f}",
            f"{one.batch_ms:.1f}",
            f"{one.gap_ms:.1f}",
            f"{one.pass_over_fit:.2f}",
        )
    return table
