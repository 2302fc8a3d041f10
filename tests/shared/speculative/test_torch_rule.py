"""The draw in torch equals that in NumPy for every row."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from shared.speculative.draw import draw
from shared.speculative.params import SamplingParams
from shared.speculative.torch_rule import columns, draw_ordered, draw_rows

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
VOCABS = [1, 2, 5, 63, 64, 65, 66, 1000, 1024, 1025, 2048, 3000]
PADDING = 11


def cases(vocab: int, rows: int) -> tuple[npt.NDArray[np.float32], list[SamplingParams], list[int]]:
    """Sharp, flat and tied logits with padding that must not be drawn; parameters with extreme values."""
    rng = np.random.default_rng(vocab)
    logits = rng.normal(size=(rows, vocab + PADDING)) * rng.choice([0.05, 1.0, 4.0], size=(rows, 1))
    tied = rng.random(rows) < 0.4
    logits[tied] = np.round(logits[tied] * 2) / 2
    logits[:, vocab:] = 100.0
    params = [
        SamplingParams(
            seed=int(rng.integers(2**64, dtype=np.uint64)),
            vocab=vocab,
            temperature=float(rng.choice([0.0, 0.3, 1.0, 1.5])),
            top_k=int(rng.choice([0, 0, 1, 10, 64, 65, 200, 1024, 1500, 5000])),
            top_p=float(rng.choice([1.0, 1.0, 0.9, 0.5, 0.3, 1e-9, 0.999999])),
        )
        for _ in range(rows)
    ]
    return logits.astype(np.float32), params, [int(t) for t in rng.integers(0, 1 << 17, size=rows)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vocab", VOCABS)
def test_draw_rows_is_draw(vocab: int, device: str) -> None:
    logits, params, positions = cases(vocab, rows=300)
    expected = [draw(*row) for row in zip(logits, params, positions, strict=True)]
    assert draw_rows(torch.from_numpy(logits).to(device), params, positions) == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vocab", VOCABS)
def test_draw_ordered_is_draw(vocab: int, device: str) -> None:
    """The second pass, which is used on CUDA, equals `draw` for all kinds of rows."""
    logits, params, positions = cases(vocab, rows=150)
    warm = [i for i, p in enumerate(params) if p.temperature > 0]
    expected = [draw(logits[i], params[i], positions[i]) for i in warm]
    rows = columns([params[i] for i in warm], [positions[i] for i in warm], torch.device(device))
    assert draw_ordered(torch.from_numpy(logits[warm, :vocab]).to(device), rows) == expected


def test_all_greedy_and_none() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 9.0], [5.0, 1.0, 5.0, 9.0]])
    params = [SamplingParams(seed=i, vocab=3) for i in range(2)]
    assert draw_rows(logits, params, [3, 4]) == [1, 0]
    assert draw_rows(logits[:0], [], []) == []


def test_one_vocabulary_per_call() -> None:
    params = [SamplingParams(seed=0, vocab=3), SamplingParams(seed=0, vocab=4)]
    with pytest.raises(ValueError, match="same vocabulary"):
        draw_rows(torch.zeros(2, 4), params, [0, 0])


def test_more_rows_than_a_chunk() -> None:
    logits, params, positions = cases(1500, rows=40)
    flat = [SamplingParams(seed=p.seed, vocab=1500, temperature=1.5, top_p=0.95) for p in params]
    expected = [draw(*row) for row in zip(logits, flat, positions, strict=True)]
    assert draw_rows(torch.from_numpy(logits), flat, positions) == expected
