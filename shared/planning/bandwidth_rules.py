"""The rules by which the bands of radio cells are shared live, by name. `live_shares.py` says what they do."""

from typing import Final, Literal, get_args

Bandwidth = Literal["uniform", "fair", "minmax", "weighted", "joint"]
# policy: as the policy's entry in the registry says; none: nobody is given a share.
Rule = Literal["policy", "none", "uniform", "fair", "minmax", "weighted", "joint"]
BANDWIDTHS: Final[tuple[Bandwidth, ...]] = get_args(Bandwidth)
RULES: Final[tuple[Rule, ...]] = get_args(Rule)
BY_POLICY: Final = "policy"
NO_SHARES: Final = "none"
