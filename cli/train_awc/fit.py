"""Fits the network of `awc` to examples, and judges it on those that it has not seen."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cli.train_awc.dataset import CHOICES, FOLDS, Examples, Floats
from shared.planning.windows.awc import best
from shared.planning.windows.cost_network import ARRAYS, CostNetwork
from shared.planning.windows.sensors import FEATURES

HIDDEN: Final = 16
EPOCHS: Final = 300
RATE: Final = 5e-3
DECAY: Final = 0.1  # of weights
HUBER: Final = 0.1  # log cost beyond which an error counts by its size, not its square
BLUR: Final = 0.8  # of standardised features: cells are few, and must not be recognised by exact figures
# Choices that are far from the best need not be predicted well: log cost by which one counts 1/e.
FAR: Final = 0.4


def fit(examples: Examples, seed: int, about: Mapping[str, Any], epochs: int = EPOCHS) -> CostNetwork:
    """The network that is fitted to the examples. The same examples and seed give the same one."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    mean, scale = examples.features.mean(axis=0), examples.features.std(axis=0) + 1e-3
    x = torch.tensor((examples.features - mean) / scale, dtype=torch.float32)
    ones = torch.ones(len(x), 1)
    error = examples.log_costs - examples.predicted  # of goodput; only its shape over the choices matters
    worse = examples.log_costs - examples.log_costs.min(axis=1, keepdims=True)
    of_choice = np.exp(-worse / FAR)
    of_choice /= of_choice.sum(axis=1, keepdims=True)
    error -= (of_choice * error).sum(axis=1, keepdims=True)
    target = torch.tensor(error, dtype=torch.float32)
    weights = torch.tensor(of_choice * examples.weights[:, None], dtype=torch.float32)
    weights /= weights.sum()
    layers = [
        torch.randn(HIDDEN, len(FEATURES) + 1, generator=generator) / len(FEATURES) ** 0.5,
        torch.randn(HIDDEN, HIDDEN, generator=generator) / HIDDEN**0.5,
        torch.zeros(len(CHOICES), HIDDEN),  # begins as goodput
    ]
    for layer in layers:
        layer.requires_grad_()
    optimiser = torch.optim.AdamW(layers, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        blurred = x + BLUR * torch.randn(x.shape, generator=generator)
        first = torch.relu(torch.cat([blurred, ones], dim=1) @ layers[0].T)
        second = first + torch.relu(first @ layers[1].T)
        losses = torch.nn.functional.huber_loss(second @ layers[2].T, target, reduction="none", delta=HUBER)
        optimiser.zero_grad()
        (weights * losses).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    low, high = examples.features.min(axis=0), examples.features.max(axis=0)
    found = (low, high, mean, scale, *(layer.detach().numpy() for layer in layers))
    arrays = {name: np.asarray(one, dtype=np.float32) for name, one in zip(ARRAYS, found, strict=True)}
    return CostNetwork(CHOICES, **arrays, about=about)


def held_out_costs(examples: Examples, seed: int, epochs: int = EPOCHS) -> Floats:
    """Predicted log costs of each fold, by a network that was fitted to the other folds. [L, C]"""
    costs = np.empty_like(examples.log_costs)
    for fold in range(FOLDS):
        held_out = examples.fold == fold
        network = fit(examples.of(~held_out), seed, {}, epochs)
        costs[held_out] = predicted_costs(network, examples.of(held_out))
    return costs


def predicted_costs(network: CostNetwork, examples: Examples) -> Floats:
    """The network's log costs at each look, [L, C]."""
    rows = zip(examples.features, examples.predicted, strict=True)
    return np.array([network.log_costs(x.astype(np.float32), base) for x, base in rows])


def judge(costs: Floats, examples: Examples) -> dict[str, float]:
    """Cost of a token beyond that of the best length at each look, as a share, averaged over cells.

    costs: predicted log costs [L, C], from which `awc` would take its choice. goodput: the least by its formula.
    best_static: the one length that is best over all of these cells.
    """
    of_static = [_regret(examples, np.full(len(costs), at)) for at in range(len(CHOICES))]
    return {
        "awc": _regret(
            examples, np.array([best(*pair) for pair in zip(costs, examples.predicted, strict=True)])
        ),
        "goodput": _regret(examples, examples.predicted.argmin(axis=1)),
        "static_4": of_static[CHOICES.index(("distributed", 4))],
        "best_static": min(of_static),
        "best_static_of_each_cell": _best_of_cells(examples),
    }


def _regret(examples: Examples, chosen: Floats) -> float:
    """Weighted mean of the cost over the least, less 1. chosen: index of the choice at each look."""
    worse = examples.log_costs[np.arange(len(chosen)), chosen] - examples.log_costs.min(axis=1)
    return float(np.expm1((examples.weights * worse).sum() / examples.weights.sum()))


def _best_of_cells(examples: Examples) -> float:
    worse = examples.log_costs - examples.log_costs.min(axis=1, keepdims=True)
    cells = np.unique(examples.cell)
    regrets = [
        (examples.weights[at, None] * worse[at]).sum(axis=0).min() / examples.weights[at].sum()
        for at in (examples.cell == cell for cell in cells)
    ]
    return float(np.expm1(np.mean(regrets)))
