"""Golden vectors: the same bits and noise from plain integers, NumPy, torch on the CPU and on CUDA if present."""

import numpy as np
import pytest
import torch

from shared.speculative import torch_rule
from shared.speculative.draw import draw
from shared.speculative.golden import GoldenNoise, example_logits, golden
from shared.speculative.noise import GOLDEN, MASK64, gumbel, mix, noise_bits, position_key

NOISE, DRAWS = golden()
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def torch_key(vector: GoldenNoise, device: str) -> torch.Tensor:
    """The position's key in the form that draw_rows uses: int64, [1, 1]."""
    key = np.array([[position_key(vector.seed, vector.position)]], dtype=np.uint64)
    return torch.from_numpy(key.view(np.int64)).to(device)


def test_mix_is_splitmix64() -> None:
    # The first outputs of SplitMix64 from state 0, as in the reference implementation by S. Vigna.
    outputs = [mix((n * GOLDEN) & MASK64) for n in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("vector", NOISE, ids=lambda v: f"{v.seed}-{v.position}")
def test_numpy_noise_is_golden(vector: GoldenNoise) -> None:
    key = position_key(vector.seed, vector.position)
    ids = np.array(vector.ids)
    plain = [mix((key + GOLDEN * i) & MASK64) for i in vector.ids]
    assert plain == vector.bits.tolist()
    assert noise_bits(key, ids).tolist() == vector.bits.tolist()
    np.testing.assert_allclose(gumbel(key, ids), vector.gumbel, rtol=1e-13)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vector", NOISE, ids=lambda v: f"{v.seed}-{v.position}")
def test_torch_noise_is_golden(vector: GoldenNoise, device: str) -> None:
    key, ids = torch_key(vector, device), torch.tensor(vector.ids, device=device)
    bits = torch_rule.noise_bits(key, ids).cpu().numpy().view(np.uint64)
    assert bits[0].tolist() == vector.bits.tolist()
    noise = torch_rule.gumbel(key, ids).cpu().numpy()
    np.testing.assert_allclose(noise[0], vector.gumbel, rtol=1e-13)


def test_numpy_draws_are_golden() -> None:
    for vector in DRAWS:
        logits = example_logits(vector.params.vocab, vector.sharpness)
        assert draw(logits, vector.params, vector.position) == vector.token, vector


@pytest.mark.parametrize("device", DEVICES)
def test_torch_draws_are_golden(device: str) -> None:
    by_logits: dict[tuple[int, float], list[int]] = {}
    for i, vector in enumerate(DRAWS):
        by_logits.setdefault((vector.params.vocab, vector.sharpness), []).append(i)
    for (vocab, sharpness), members in by_logits.items():
        vectors = [DRAWS[i] for i in members]
        logits = torch.from_numpy(example_logits(vocab, sharpness)).to(device).repeat(len(vectors), 1)
        tokens = torch_rule.draw_rows(logits, [v.params for v in vectors], [v.position for v in vectors])
        assert tokens == [v.token for v in vectors]


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel(position_key(3, 5), np.arange(200_000))
    assert abs(noise.mean() - np.euler_gamma) < 0.01
    assert abs(noise.var() - np.pi**2 / 6) < 0.03
    assert np.isfinite(noise).all()
