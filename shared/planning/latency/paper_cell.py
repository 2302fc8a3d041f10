"""The cell of the paper: users around a base station, their prompts, and three pairs of models.

Given by the paper: radius 400 m, 0.2 W, −106 dBm of noise, inputs of 1 to 512 and outputs of 1 to 2048 tokens, drafts
of up to 10, 25 MHz and α = 0.8 for its first headline. Not given, and settings here: path loss, bits a token, c1, c2.
Their defaults are not chosen for any headline: path loss 128.1 + 37.6·log10(d in km) dB with Rayleigh fading (usual
for macro cells), 16 bits, which is a token's id, and the c1 and the c2 of a layer that the DiP-SD paper
measured on an RTX 3090 (drafts) and an A100 (verification).
Source: Zhu, Chen, Zhao, Shin, Nallanathan, arXiv 2510.11331, simulation set-up.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.planning import paper_setting
from shared.planning.bandwidth.uploads import Cell, Uploads, efficiency_of
from shared.planning.cost import Padded
from shared.planning.latency.cohort import Cohort, SharedCell
from shared.planning.problem import PaddedServer, User

RADIUS_KM: Final = 0.4
NEAREST_KM: Final = 0.01  # the path loss model ends there
POWER_DBM: Final = 10 * float(np.log10(200.0))  # 0.2 W
NOISE_DBM: Final = -106.0
BANDWIDTH_HZ: Final = 25e6
MAX_INPUT: Final = 512
MAX_OUTPUT: Final = 2048
MAX_DRAFT: Final = 10
ALPHA: Final = 0.8
USERS: Final = 100


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A transformer: layers, hidden and feed-forward size."""

    layers: int
    hidden: int
    ffn: int


SIZES: Final = {
    "68M": ModelSize(2, 768, 3072),
    "1.1B": ModelSize(22, 2048, 5632),
    "7B": ModelSize(32, 4096, 11008),
    "13B": ModelSize(40, 5120, 13824),
}
PAIRS: Final = (("68M", "7B"), ("1.1B", "7B"), ("1.1B", "13B"))


@dataclass(frozen=True, slots=True)
class Setting:
    """What the paper leaves open.

    c1_scale, c2_scale: factors on the defaults of both nodes. drafter_scale: a factor on both of the draft node alone.
    """

    bits_per_token: float = 16.0
    path_loss_db_at_km: float = 128.1
    path_loss_db_per_decade: float = 37.6
    c1_scale: float = 1.0
    c2_scale: float = 1.0
    drafter_scale: float = 1.0


def paper_cohort(
    seed: int, setting: Setting, pair: tuple[str, str] = PAIRS[0], users: int = USERS, alpha: float = ALPHA
) -> Cohort:
    """A random cohort in the paper's cell: users uniform over the disc.

    A smaller cohort is the beginning of a larger one.
    """
    draws = np.random.default_rng(seed).random((users, 5))
    distance = np.maximum(NEAREST_KM, RADIUS_KM * np.sqrt(draws[:, 0]))
    fading = -np.log1p(-draws[:, 1])  # of the power: exponential, mean 1 (Rayleigh)
    loss_db = setting.path_loss_db_at_km + setting.path_loss_db_per_decade * np.log10(distance)
    snr = 10 ** ((POWER_DBM - NOISE_DBM - loss_db) / 10) * fading
    inputs = 1 + (draws[:, 2] * MAX_INPUT).astype(np.int64)
    outputs = 1 + (draws[:, 3] * MAX_OUTPUT).astype(np.int64)
    everyone = tuple(User(f"u{k + 1}", alpha, int(tokens), 0.0) for k, tokens in enumerate(inputs))
    uploads = Uploads.of(
        Cell("cell", BANDWIDTH_HZ),
        [user.id for user in everyone],
        setting.bits_per_token * inputs.astype(np.float64),
        [efficiency_of(float(each)) for each in snr],
    )
    draft, target = pair
    slower = replace(
        setting,
        c1_scale=setting.c1_scale * setting.drafter_scale,
        c2_scale=setting.c2_scale * setting.drafter_scale,
    )
    return Cohort(
        everyone,
        tuple(int(tokens) for tokens in outputs),
        PaddedServer(node(SIZES[target], paper_setting.SERVER, setting), paper_setting.MEMORY_BYTES),
        node(SIZES[draft], paper_setting.DEVICE, slower),
        (SharedCell(uploads, tuple(range(users)), "joint"),),
        1,
        MAX_DRAFT,
    )


def node(size: ModelSize, measured: Padded, setting: Setting) -> Padded:
    """The law of a model on a measured machine: its c1, and its c2 by layers."""
    return Padded(
        setting.c2_scale * measured.beta_ms / measured.layers * size.layers,
        setting.c1_scale * measured.ms_per_operation,
        size.layers,
        size.hidden,
        size.ffn,
    )
