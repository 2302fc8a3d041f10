"""Draft trees fill the stages of a pipelined target (FlowSpec, arXiv 2507.02620)."""

from shared.planning.policies.fixed_k import FixedK


class FlowSpec(FixedK):
    """`flowspec`: a verifier with stages keeps every session; their devices' trees, or its own, fill its stages.

    At a verifier in one process, and where a session cannot be kept, it is `fixed-k`.
    """

    name = "flowspec"
    trees = True


def make(k: int, batches: int) -> FlowSpec:
    """Make the policy, for the registry."""
    return FlowSpec(k)
