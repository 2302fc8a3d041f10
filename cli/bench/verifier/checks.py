"""Exactness on this device: golden vectors, and packed passes against plain transformers for each model family."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from services.verifier.torch_target import TorchTarget
from shared.compute.target import Choices, TargetRow
from shared.speculative import torch_rule
from shared.speculative.golden import example_logits, golden
from shared.speculative.noise import position_key
from shared.speculative.params import SamplingParams

TOLERANCE: Final = 1e-4  # nats; float32 on a GPU sums in another order than the plain pass
VOCAB: Final = 97
WINDOW: Final = 7
SIZE: Final[dict[str, Any]] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # wide enough for every layer to matter
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

Paths = list[tuple[int, ...]]


def golden_failures(device: str) -> list[str]:
    """Differences from the golden vectors on this device, each as a line."""
    noise, draws = golden()
    failures = []
    for vector in noise:
        key = np.array([[position_key(vector.seed, vector.position)]], dtype=np.uint64).view(np.int64)
        keys, ids = torch.from_numpy(key).to(device), torch.tensor(vector.ids, device=device)
        where = f"seed {vector.seed} position {vector.position}"
        bits = torch_rule.noise_bits(keys, ids)[0].cpu().numpy().view(np.uint64)
        if not np.array_equal(bits, vector.bits):
            failures.append(f"bits: {where}")
        if not np.allclose(torch_rule.gumbel(keys, ids)[0].cpu().numpy(), vector.gumbel, rtol=1e-13, atol=0):
            failures.append(f"noise: {where}")
    for draw in draws:
        logits = torch.from_numpy(example_logits(draw.params.vocab, draw.sharpness)).to(device)[None]
        if torch_rule.draw_rows(logits, [draw.params], [draw.position]) != [draw.token]:
            failures.append(f"draw: {draw.params} position {draw.position}")
    return failures


def families() -> dict[str, Any]:
    """A tiny configuration of every supported family, with its sliding windows and soft caps."""
    alternating = ["sliding_attention", "full_attention"] * 2
    return {
        "Llama": LlamaConfig(**SIZE, tie_word_embeddings=True),
        "Qwen2": Qwen2Config(**SIZE),
        "Qwen3": Qwen3Config(**SIZE, head_dim=32),
        "Gemma 2": Gemma2Config(
            **SIZE,
            head_dim=16,
            sliding_window=WINDOW,
            query_pre_attn_scalar=16,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=5.0,
        ),
        "Gemma 3": Gemma3TextConfig(
            **SIZE, head_dim=16, sliding_window=WINDOW, query_pre_attn_scalar=16, layer_types=alternating
        ),
    }


def worst_difference(config: Any, device: str) -> float:
    """Largest difference in log p between packed passes and a plain one, over chains, trees, rollbacks."""
    target = TorchTarget(_model(config, device), vocabulary="", vocab=VOCAB, kv_tokens=512, page_tokens=4)
    plain = _model(config, device)
    texts = {f"s{i}": _ids(length, seed=i) for i, length in enumerate((1, 5, 17, 33))}
    worst = 0.0
    for turn, (drafts, parents) in enumerate(_drafts()):
        rows = []
        for number, (session, text) in enumerate(texts.items()):
            draft, tree = _ids(drafts[number], seed=100 * turn + number), parents[number]
            target.admit(session, text, list(texts), len(text) + len(draft))
            start = target.cached(session)
            fed = (*text[start:], *draft)
            sampling = SamplingParams(seed=0, vocab=VOCAB)
            rows.append(TargetRow(session, start, fed, len(text) - start, True, sampling, VOCAB, tree))
        for row, choices in zip(rows, target.forward(rows), strict=True):
            text = texts[row.session]
            for path, log_probs in zip(_paths(row), _log_probs(choices), strict=True):
                worst = max(worst, float((log_probs - _plain_log_probs(plain, (*text, *path))).abs().max()))
            target.keep(
                row.session, len(text) + (0 if row.parents else (len(row.tokens) - row.committed) // 2)
            )
            kept = row.tokens[row.committed :][: target.cached(row.session) - len(text)]
            texts[row.session] = (*text, *kept, 7 + turn)
    return worst


def _drafts() -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
    """Draft lengths and trees of four sessions, turn by turn."""
    chain: tuple[int, ...] = ()
    yield [0, 3, 7, 1], [chain] * 4
    yield [4, 0, 6, 5], [chain, chain, (-1, -1, 0, 1, 2, 2), chain]
    yield [1, 8, 2, 0], [chain] * 4


def _paths(row: TargetRow) -> Paths:
    """The drafted tokens that lead to each choice of a row."""
    draft = row.tokens[row.committed :]
    parents = row.parents or range(-1, len(draft) - 1)
    paths: Paths = [()]
    for token, parent in zip(draft, parents, strict=True):
        paths.append((*paths[parent + 1], token))
    return paths


def _log_probs(choices: Choices) -> Iterator[Tensor]:
    """Log-probabilities of the whole vocabulary, choice by choice. [V]"""
    for _, ids, values in choices.logprobs:
        yield torch.empty(VOCAB).index_copy(0, torch.tensor(ids), torch.tensor(values))


@torch.inference_mode()
def _plain_log_probs(model: Any, ids: Sequence[int]) -> Tensor:
    """Log-probabilities of transformers after ids, without a cache. [V]"""
    logits: Tensor = model(torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=0).cpu()


def _model(config: Any, device: str) -> Any:
    """Random weights, the same for every call, in float32 with transformers' own attention."""
    torch.manual_seed(0)
    factory: Any = AutoModelForCausalLM
    # A copy: models made of one configuration would share its choice of attention.
    model = factory.from_config(deepcopy(config), dtype=torch.float32, attn_implementation="eager")
    return model.to(device).eval()


def _ids(length: int, seed: int) -> tuple[int, ...]:
    return tuple((31 * seed + 7 * i * i + 3) % VOCAB for i in range(length))
