"""The network of the window controller `awc`: from features to the log cost of a token under every choice.

It corrects goodput's prediction:

    log cost [C] = predicted [C] + exit · h₂        h₁ = relu(enter · x)        h₂ = h₁ + relu(inner · h₁)

x are the standardised features with a 1 for the biases [F + 1]. C choices are pairs of mode and draft length.
`outrider train-awc` makes the file; docs/notes/windows.md says how.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.planning.windows.sensors import FEATURES, FloatArray
from shared.planning.windows.window import MAX_K, Mode

SCHEMA: Final = 1
SLACK: Final = 0.05  # of a feature's range in training, by which it may be exceeded
SHIPPED: Final = Path(__file__).with_name("awc_weights.json")
DIGITS: Final = 6  # of a weight in the file
ARRAYS: Final = ("low", "high", "mean", "scale", "enter", "inner", "exit")

Choice = tuple[Mode, int]


class WeightsError(ValueError):
    """A weights file that cannot be used; the text names the file and the mend."""


@dataclass(frozen=True)
class CostNetwork:
    """Weights, and what they were made of.

    choices: what the outputs stand for. low, high: least and greatest value of each feature in training [F]. mean,
    scale: for standardising [F]. enter: [H, F + 1]; inner: [H, H]; exit: [C, H]. about: origin, for people.
    """

    choices: tuple[Choice, ...]
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    scale: FloatArray
    enter: FloatArray
    inner: FloatArray
    exit: FloatArray
    about: Mapping[str, Any]

    def log_costs(self, features: FloatArray, predicted: FloatArray) -> FloatArray:
        """Log of the cost of a token under every choice. features: [F]; predicted: goodput's, [C]. [C]"""
        x = np.append((features - self.mean) / self.scale, np.float32(1.0))
        first = np.maximum(self.enter @ x, 0.0)
        second = first + np.maximum(self.inner @ first, 0.0)
        costs: FloatArray = predicted + self.exit @ second
        return costs

    def outside(self, features: FloatArray) -> str | None:
        """The first feature that training did not cover; None if it covered all."""
        slack = SLACK * (self.high - self.low) + np.float32(1e-6)
        wrong = (features < self.low - slack) | (features > self.high + slack)
        return FEATURES[int(wrong.argmax())] if wrong.any() else None


def write_weights(path: Path, network: CostNetwork) -> None:
    """Write a network with the hash of its figures. Raises OSError."""
    document = {"schema": SCHEMA, **network.about, "features": FEATURES, "choices": network.choices}
    document |= {name: _rounded(getattr(network, name)) for name in ARRAYS}
    document["sha256"] = _hash(document)
    lines = json.dumps(document, separators=(",", ":"))
    for name in (*ARRAYS, "features", "choices", "sha256"):  # a line each, for diffs
        lines = lines.replace(f',"{name}":', f',\n"{name}":')
    path.write_text(lines + "\n", encoding="utf-8")


def read_weights(path: Path = SHIPPED) -> CostNetwork:
    """Read a network. Raises WeightsError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("schema") != SCHEMA or tuple(document["features"]) != FEATURES:
            raise WeightsError(f"{path}: it is of another version; make a new one with `outrider train-awc`")
        if document.pop("sha256") != _hash(document):
            raise WeightsError(
                f"{path}: sha256: the figures are not those that were trained; restore the file"
            )
        arrays = {name: np.array(document.pop(name), dtype=np.float32) for name in ARRAYS}
        choices = tuple((mode, int(k)) for mode, k in document.pop("choices"))
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; `outrider train-awc` makes one") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: not weights of `outrider train-awc`: {error!r}") from None
    network = CostNetwork(choices, **arrays, about=document)
    _check_shapes(path, network)
    return network


def predicted_of(choices: Sequence[Choice], by_length: FloatArray) -> FloatArray:
    """Goodput's prediction for every choice, [C]. by_length: for k = 0 to MAX_K; the core's drafts travel nowhere."""
    return by_length[[k for _, k in choices]]


def _check_shapes(path: Path, network: CostNetwork) -> None:
    features, hidden, count = len(FEATURES), len(network.inner), len(network.choices)
    of_features = {getattr(network, name).shape for name in ("low", "high", "mean", "scale")}
    found = (of_features, network.enter.shape, network.inner.shape, network.exit.shape)
    expected = ({(features,)}, (hidden, features + 1), (hidden, hidden), (count, hidden))
    lengths_fit = all(0 <= k <= MAX_K for _, k in network.choices)
    finite = all(np.isfinite(getattr(network, name)).all() for name in ARRAYS)
    if found != expected or not (lengths_fit and finite and network.scale.all()):
        raise WeightsError(
            f"{path}: its arrays do not fit together; make a new one with `outrider train-awc`"
        )


def _hash(document: Mapping[str, Any]) -> str:
    """SHA-256 of the figures, as JSON writes them."""
    figures = {name: document[name] for name in ARRAYS}
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()


def _rounded(values: FloatArray) -> Any:
    return [
        _rounded(value) if isinstance(value, np.ndarray) else float(f"{value:.{DIGITS}g}") for value in values
    ]
