"""`draw.draw` for many rows at once in torch, on CPU or CUDA, with the same noise and the same scores in float64.

The most likely tokens of a row and its total mass decide almost every draw. So one pass over all rows draws those, and
marks the few that it cannot decide: the bucket won, top-k or the nucleus extends beyond the ranked tokens, or there is
a tie at the last rank. After a single synchronisation with the device, the marked rows are drawn from their full order.
Shapes: n rows, V tokens, W ranked tokens; columns are [n, 1].
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from shared.speculative.draw import BLOCK, K, draw
from shared.speculative.noise import GOLDEN, MASK64, MUL_1, MUL_2, position_key
from shared.speculative.params import SamplingParams

MAX_WIDTH: Final = 1024  # a top_k up to this is ranked in the first pass
CHUNK: Final = 32  # rows whose scores [V] are in float64 at the same time
UNDECIDED: Final = -1


class Rows(NamedTuple):
    """Parameters of the rows as columns [n, 1] on the device."""

    keys: Tensor  # int64, of the noise at the row's position
    limit: Tensor  # int64, tokens that top-k leaves; V without top-k
    temperature: Tensor  # float64, 1 for greedy rows
    top_p: Tensor  # float64
    greedy: Tensor  # bool


class First(NamedTuple):
    """Result of the first stage, Gumbel-max over head and bucket, as columns. ids: [n, W], most likely first."""

    token: Tensor  # winner of the head
    bucket_won: Tensor
    decided: Tensor  # whether W ranked tokens are enough to know these two
    limit: Tensor  # tokens that top-k and top-p leave
    ids: Tensor


def draw_rows(logits: Tensor, params: Sequence[SamplingParams], positions: Sequence[int]) -> list[int]:
    """draw(logits[i], params[i], positions[i]) for every row i. logits: [n, >= V] float32, the same V for all rows.

    Raises ValueError for different vocabularies.
    """
    if not params:
        return []
    vocab = params[0].vocab
    if any(p.vocab != vocab for p in params):
        raise ValueError("all rows of a call must have the same vocabulary")
    logits = logits[:, :vocab]
    if all(p.temperature == 0.0 for p in params):
        if (
            logits.device.type == "cpu"
        ):  # NumPy vectorises argmax: 0.2 ms for 32 rows of 49,152; torch needs 2.6 ms
            return [int(token) for token in logits.numpy().argmax(axis=1)]
        return _ints(logits.argmax(dim=1))
    rows = columns(params, positions, logits.device)
    width = min(vocab, 1 + max([K, *(p.top_k for p in params if p.top_k <= MAX_WIDTH)]))
    first = first_stage(logits, rows, width)
    tokens = torch.where(first.decided & ~first.bucket_won, first.token, UNDECIDED)
    if any(p.temperature == 0.0 for p in params):
        tokens = torch.where(rows.greedy, logits.argmax(dim=1, keepdim=True), tokens)
    drawn = _ints(tokens[:, 0])
    undecided = [i for i, token in enumerate(drawn) if token == UNDECIDED]
    for at in range(0, len(undecided), CHUNK):
        chunk = undecided[at : at + CHUNK]
        if logits.device.type == "cpu":  # on a CPU, drawing row by row is faster than a full sort
            chunk_tokens = [draw(logits[i].numpy(), params[i], positions[i]) for i in chunk]
        else:
            chunk_tokens = draw_ordered(logits[chunk], Rows(*(column[chunk] for column in rows)))
        for i, token in zip(chunk, chunk_tokens, strict=True):
            drawn[i] = token
    return drawn


def columns(params: Sequence[SamplingParams], positions: Sequence[int], device: torch.device) -> Rows:
    """The rows' parameters on the device, copied without waiting for its current work."""

    def column(values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype)[:, None].to(device, non_blocking=True)

    return Rows(
        column(
            [_signed(position_key(p.seed, t)) for p, t in zip(params, positions, strict=True)], torch.int64
        ),
        column([min(p.top_k or p.vocab, p.vocab) for p in params], torch.int64),
        column([p.temperature or 1.0 for p in params], torch.float64),
        column([p.top_p for p in params], torch.float64),
        column([p.temperature == 0.0 for p in params], torch.bool),
    )


def first_stage(logits: Tensor, rows: Rows, width: int) -> First:
    """Cut by top-k and top-p, then Gumbel-max over the K most likely tokens and the bucket.

    logits: [n, V]; width: W, the number of ranked tokens.
    """
    vocab = logits.shape[1]
    values, ids = ranked(logits, width)
    scores = (values.double() - values[:, :1].double()) / rows.temperature
    mass = scores.exp().cumsum(dim=1)  # of the 1 .. W most likely tokens
    everything = mass[:, -1:] if width == vocab else whole_mass(logits, values[:, :1], rows.temperature)
    whole = torch.where(rows.limit <= width, _at(mass, rows.limit), everything)
    kept = 1 + (mass < rows.top_p * whole).sum(dim=1, keepdim=True)  # W + 1: beyond the ranked tokens
    limit = torch.where(rows.top_p < 1.0, rows.limit.minimum(kept), rows.limit)

    head = ids[:, :K]
    noisy = scores[:, :K] + gumbel(rows.keys, head)
    noisy = noisy.masked_fill(torch.arange(head.shape[1], device=ids.device) >= limit, -torch.inf)
    best = noisy.argmax(dim=1, keepdim=True)
    held = torch.where(limit <= width, _at(mass, limit), everything)
    rest = (held - _at(mass, limit.clamp(max=K))).clamp(min=0.0)  # 0 where limit <= K
    bucket = rest.log() + gumbel(rows.keys, torch.full_like(rows.keys, vocab))

    last_used = torch.where(limit <= width, limit, K)
    mass_known = (rows.limit <= width) | (
        rows.limit == vocab
    )  # otherwise `everything` is more than top-k leaves
    cut_known = (limit <= width) | ((limit == vocab) & (rows.top_p >= 1.0))
    no_tie = _at(values, last_used) > values[:, -1:]  # unranked tokens may have the value of the last rank
    decided = (mass_known & cut_known & no_tie) if width < vocab else torch.ones_like(rows.greedy)
    return First(head.gather(1, best), bucket > noisy.gather(1, best), decided, limit, ids)


def draw_ordered(logits: Tensor, rows: Rows) -> list[int]:
    """Both stages, from the full order of every row. logits: [n, V] -> [n]."""
    n, vocab = logits.shape
    first = first_stage(logits, rows, vocab)
    rank = torch.arange(vocab, device=logits.device)
    in_rest = torch.zeros_like(logits, dtype=torch.bool).scatter(
        1, first.ids, (rank >= K) & (rank < first.limit)
    )
    scores = (logits.double() - logits.gather(1, first.ids[:, :1]).double()) / rows.temperature
    scores = scores.masked_fill(~in_rest, -torch.inf)
    blocks = torch.nn.functional.pad(scores, (0, -vocab % BLOCK), value=-torch.inf).view(n, -1, BLOCK)
    keys = vocab + 1 + torch.arange(blocks.shape[1], device=logits.device)
    block = (blocks.logsumexp(dim=2) + gumbel(rows.keys, keys)).argmax(dim=1, keepdim=True)
    members = block * BLOCK + torch.arange(BLOCK, device=logits.device)  # [n, BLOCK]
    inside = blocks[torch.arange(n, device=logits.device), block[:, 0]]
    token = block * BLOCK + (inside + gumbel(rows.keys, members)).argmax(dim=1, keepdim=True)
    return _ints(torch.where(first.bucket_won, token, first.token)[:, 0])


def ranked(logits: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Values and ids of the W most likely tokens: value descending, id ascending. [n, W] each.

    Which of several tied tokens gets the last rank is undefined.
    """
    if width == logits.shape[1]:
        return logits.sort(dim=1, descending=True, stable=True)
    values, ids = logits.topk(width, dim=1)  # orders ties arbitrarily
    ids, by_id = ids.sort(dim=1)
    values, by_value = values.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    return values, ids.gather(1, by_value)


def whole_mass(logits: Tensor, top: Tensor, temperature: Tensor) -> Tensor:
    """Sum of exp((logits - top) / temperature) over the vocabulary, in float64. [n, V] -> [n, 1]."""
    parts = []
    for at in range(0, len(logits), CHUNK):
        part = slice(at, at + CHUNK)
        scores = logits[part].double().sub_(top[part].double()).div_(temperature[part])
        parts.append(scores.exp_().sum(dim=1, keepdim=True))
    return torch.cat(parts)


def noise_bits(keys: Tensor, ids: Tensor) -> Tensor:
    """noise.noise_bits in int64, whose products wrap like unsigned ones. keys: [n, 1], ids: [m] or [n, m] -> [n, m]."""
    x = ids * _signed(GOLDEN) + (keys + _signed(GOLDEN))
    x = (x ^ _shift_right(x, 30)) * _signed(MUL_1)
    x = (x ^ _shift_right(x, 27)) * _signed(MUL_2)
    return x ^ _shift_right(x, 31)


def gumbel(keys: Tensor, ids: Tensor) -> Tensor:
    """noise.gumbel of every id under its row's key. keys: [n, 1], ids: [m] or [n, m] -> [n, m] float64."""
    u = (_shift_right(noise_bits(keys, ids), 12).double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(u))


def _shift_right(x: Tensor, n: int) -> Tensor:
    """Logical shift; int64's own shift is arithmetic."""
    return (x >> n) & (MASK64 >> n)


def _signed(x: int) -> int:
    """The int64 with the bits of an unsigned 64-bit number."""
    return x - (1 << 64) if x >> 63 else x


def _at(values: Tensor, count: Tensor) -> Tensor:
    """values[i, count[i] - 1], or the last value where count[i] > W. [n, W], [n, 1] -> [n, 1]."""
    return values.gather(1, count.clamp(max=values.shape[1]) - 1)


def _ints(values: Tensor) -> list[int]:
    """Copy to the host. Waits for the device."""
    return [int(x) for x in values.tolist()]
