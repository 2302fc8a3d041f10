"""The registry of policies. To add a policy, write its file in this package and one line in `REGISTRY`.

Settings, the command line's help, scenarios and reports take names, order and colours from here. A policy's module
is loaded when one of its policies is made, so that reading names is cheap.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.planning.policy import Policy

DEFAULT_K: Final = 4


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """An entry of the registry.

    module: file in this package. maker: its function that takes k and the number of batches and returns the policy.
    colour: in reports. speculates: whether devices draft under the policy. bandwidth: how it shares the band of a radio
    cell where nothing else is set, see planning/live_shares.py; "" = not.
    """

    module: str
    colour: str
    speculates: bool = True
    maker: str = "make"
    bandwidth: str = ""


REGISTRY: Final[dict[str, PolicyEntry]] = {
    "autoregressive": PolicyEntry("autoregressive", "#6b7785", speculates=False),
    "greedy-batch": PolicyEntry("greedy_batch", "#8a6d3b", speculates=False),
    "fixed-k": PolicyEntry("fixed_k", "#a8428a"),
    "cyclic-k": PolicyEntry("cyclic_k", "#7a6bc4"),
    "dip-sd": PolicyEntry("dip_sd", "#d97a1e"),
    "flowspec": PolicyEntry("flowspec", "#4f9a3a"),
    "outrider": PolicyEntry("outrider", "#2463ae"),
    "outrider-fair": PolicyEntry("outrider", "#17907f", maker="make_fair"),
    "outrider-latency": PolicyEntry("outrider_latency", "#b0483a", bandwidth="joint"),
}
POLICY_NAMES: Final = tuple(REGISTRY)


class UnknownPolicy(ValueError):
    """No policy has that name; the text lists the known ones."""


def make_policy(name: str, k: int = 0, batches: int = 2) -> "Policy":
    """Make a policy by name.

    k: the draft length of policies with a fixed one, 0 = DEFAULT_K. batches: N of `cyclic-k`. Raises UnknownPolicy.
    """
    if name not in REGISTRY:
        raise UnknownPolicy(f"{name!r}: no such policy; known are {', '.join(REGISTRY)}")
    entry = REGISTRY[name]
    module = import_module(f"{__name__}.{entry.module}")
    policy: Policy = getattr(module, entry.maker)(k or DEFAULT_K, batches)
    return policy
