"""Reordered linear layers compute the same as plain ones."""

import pytest
import torch
from torch import nn

from services.verifier import linear as layouts
from services.verifier.head import Head
from services.verifier.linear import ReorderedLinear, WideLinear, WidenedLinear, fit_linears, widened


def model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(33, 70), nn.Linear(70, 17, bias=False)).to(dtype).requires_grad_(False)


@pytest.mark.skipif(not layouts.reorders(), reason="oneDNN has no layouts of its own on this CPU")
@pytest.mark.parametrize("shape", [(1, 0), (1,), (1, 1), (2, 1), (1, 2), (1, 3), (40,)])
def test_reordered(shape: tuple[int, ...]) -> None:
    plain, fitted = model(torch.float32), model(torch.float32)
    fit_linears(fitted)
    assert isinstance(fitted[0], ReorderedLinear)  # type: ignore[index]  # a Sequential
    x = torch.randn(*shape, 33)
    assert fitted(x).shape == plain(x).shape
    assert torch.allclose(fitted(x), plain(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("piece_bytes", [1, 33 * 4 * 3, 1 << 20])
def test_widened_is_rounded_once(rows: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "PIECE_BYTES", piece_bytes)
    torch.manual_seed(rows)  # a sum that happens to be near zero has a large relative error
    plain = nn.Linear(33, 70).to(torch.bfloat16).requires_grad_(False)
    x = torch.randn(1, rows, 33).bfloat16()
    exact = x.double() @ plain.weight.double().T + plain.bias.double()
    assert torch.allclose(WidenedLinear(plain)(x).double(), exact, atol=0, rtol=2**-8)
    assert WidenedLinear(plain)(x).dtype == torch.bfloat16
    wide = widened(x.float(), plain.weight) + plain.bias.float()
    assert torch.allclose(wide.double(), exact, atol=1e-5, rtol=0)


@pytest.mark.skipif(not layouts.reorders(), reason="oneDNN has no layouts of its own on this CPU")
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_a_wide_copy_is_rounded_once_and_not_for_the_head(rows: int) -> None:
    plain = nn.Linear(33, 70).to(torch.bfloat16).requires_grad_(False)
    x = torch.randn(1, rows, 33).bfloat16()
    exact = x.double() @ plain.weight.double().T + plain.bias.double()
    wide = WideLinear(plain)
    assert torch.allclose(wide(x).double(), exact, atol=0, rtol=2**-7)
    assert wide(x).dtype == torch.bfloat16
    assert torch.allclose(wide.product(x.float()).double(), exact, atol=1e-5, rtol=0)
    assert torch.allclose(Head(wide, None).logits(x).double(), exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("native", "wide_bytes", "kind"),
    [
        (True, 1 << 20, nn.Linear),
        (False, 0, WidenedLinear),
        (False, 1 << 20, WideLinear if layouts.reorders() else WidenedLinear),
    ],
)
def test_bfloat16_is_widened_where_the_cpu_has_no_instructions_for_it(
    native: bool, wide_bytes: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "computes_bfloat16", lambda: native)
    monkeypatch.setattr(layouts, "WIDE_BYTES", wide_bytes)
    fitted = model(torch.bfloat16)
    fit_linears(fitted)
    assert type(fitted[0]) is kind  # type: ignore[index]  # a Sequential


@pytest.mark.skipif(not layouts.reorders(), reason="oneDNN has no layouts of its own on this CPU")
def test_a_tied_embedding_stays_as_it_was() -> None:
    embed, head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
    head.weight = embed.weight
    tied = nn.ModuleDict({"embed": embed, "head": head})
    expected = embed.weight.detach().clone()
    fit_linears(tied.requires_grad_(False))
    assert torch.equal(embed.weight, expected)
    assert torch.allclose(tied["head"](torch.eye(8)), expected.T, atol=1e-6)


def test_the_head_caps_softly() -> None:
    plain = nn.Linear(8, 20, bias=False).requires_grad_(False)
    hidden = 50 * torch.randn(3, 8)
    expected = 5 * torch.tanh(plain(hidden) / 5)
    assert torch.allclose(Head(plain, 5.0).logits(hidden), expected, atol=1e-5)
    assert torch.equal(Head(plain, None).logits(hidden), plain(hidden))
