"""Policies by name."""

from collections.abc import Callable, Mapping
from typing import Final

from shared.planning.policies.autoregressive import Autoregressive
from shared.planning.policies.cyclic_k import CyclicK
from shared.planning.policies.dip_sd import DipSd
from shared.planning.policies.fixed_k import FixedK
from shared.planning.policies.greedy_batch import GreedyBatch
from shared.planning.policies.outrider import Outrider
from shared.planning.policy import Policy

DEFAULT_K: Final = 4

_MAKERS: Final[Mapping[str, Callable[[int, int], Policy]]] = {
    "autoregressive": lambda k, batches: Autoregressive(),
    "greedy-batch": lambda k, batches: GreedyBatch(),
    "fixed-k": lambda k, batches: FixedK(k),
    "cyclic-k": CyclicK,
    "dip-sd": lambda k, batches: DipSd(),
    "outrider": lambda k, batches: Outrider(),
    "outrider-fair": lambda k, batches: Outrider("fair"),
}
POLICY_NAMES: Final = tuple(_MAKERS)


class UnknownPolicy(ValueError):
    """No policy of that name; the text lists those there are."""


def make_policy(name: str, k: int = 0, batches: int = 2) -> Policy:
    """A policy by name. k: draft length where it has one (0 = DEFAULT_K); batches: N of `cyclic-k`."""
    if name not in _MAKERS:
        raise UnknownPolicy(f"{name!r}: no such policy; known are {', '.join(POLICY_NAMES)}")
    return _MAKERS[name](k or DEFAULT_K, batches)
