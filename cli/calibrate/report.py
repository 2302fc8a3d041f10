"""Prints a profile as text and tables."""

from typing import Final

from rich.console import Console

from loadgen.measuring.table import table
from shared.planning.profile import Profile

# Duration of a pass in a running stack / the law's: outside of these, the share is not the broker's alone.
PASS_OVER_LAW: Final = (0.9, 1.15)
MAX_MEAN_ERROR: Final = 0.1  # beyond it a law says little
LAW_COLUMNS: Final = {
    "law": "{name}",
    "fitted on": "{law.points}",
    "tested on": "{law.held_out}",
    "mean": "{law.mean:.1%}",
    "signed": "{law.bias:+.1%}",
    "worst": "{law.worst:+.1%}",
    "1 token": "{law.single_token:+.1%}",
    "2 or 3": "{law.few_tokens:+.1%}",
}
BROKER_COLUMNS: Final = {
    "users": "{at.users}",
    "batches": "{at.batches}",
    "cycle": "{at.cycle_ms:.1f}",
    "beside the law": "{at.batch_ms:.1f}",
    "beside the pass": "{at.gap_ms:.1f}",
    "pass / law": "{at.pass_over_fit:.2f}",
}


def print_profile(console: Console, profile: Profile) -> None:
    """Print the laws with their errors, the draft model, and the broker's share."""
    server, padded, alone = profile.server, profile.padded, profile.pass_beta_ms
    console.print(
        f"\n{profile.model} in {profile.dtype}, {profile.threads} threads, {profile.device}; ms of a pass:"
    )
    console.print(
        f"  packed: {alone.packed:.3g} + {server.per_token_ms:.3g} · new + {server.per_context_ms:.3g} · cached"
    )
    console.print(f"  padded: {alone.padded:.3g} + {padded.c:.3g} · rows · operations of the longest row")
    console.print("Errors, (law − measured) / measured, on passes held out of the fit:")
    laws = {"packed": profile.errors.packed, "padded": profile.errors.padded}
    console.print(table(({"name": name, "law": law} for name, law in laws.items()), LAW_COLUMNS))
    if profile.errors.packed.mean > MAX_MEAN_ERROR:
        console.print("The mean error is large: was the machine busy? Measure again while nothing else runs")
    decodes = ", ".join(f"{ms:.1f} ms with {n}" for n, ms in profile.draft.ms_by_sessions.items())
    console.print(f"Draft model, {profile.draft.threads} thread, ms per decode, by sessions in it: {decodes}")
    if profile.alpha:
        alphas = ", ".join(f"{alpha:.2f} at temperature {at:g}" for at, alpha in profile.alpha.items())
        console.print(f"α: {alphas}")
    if profile.broker:
        console.print("A running stack with all users in every batch and no drafts; ms:")
        console.print(table(({"at": at} for at in profile.broker.users), BROKER_COLUMNS))
        console.print(
            f"beta_ms for planners: {server.beta_ms:.4g}, of which pass {alone.packed:.4g} and broker "
            f"{profile.broker.batch_ms:.4g}"
        )
        if not all(PASS_OVER_LAW[0] <= one.pass_over_fit <= PASS_OVER_LAW[1] for one in profile.broker.users):
            console.print(
                "Passes did not take as long there as by themselves (pass / law), and the broker's share holds the "
                "difference: measure again while nothing else runs"
            )
