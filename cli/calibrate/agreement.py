"""Measures α: speculation as it is served, with the real models, in this process."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.models.measure import PROMPTS
from loadgen.measuring.decodes import draft_all
from loadgen.measuring.fixed_pass import cache_context
from shared.compute.drafter import Drafter, DraftRequest
from shared.compute.target import TargetModel, TargetRow
from shared.speculative.params import SamplingParams
from shared.speculative.rule import accept_chain

TEMPERATURES: Final = (0.0, 1.0)
USERS: Final = 4
TOKENS: Final = 48
K: Final = 4


def measure_alpha(
    target: TargetModel, drafter: Drafter, folder: Path, tick: Callable[[str], None]
) -> dict[float, float]:
    """α by temperature: accepted / (accepted + rounds that ended in a rejection), over USERS prompts at once."""
    prompts, stops = chat_prompts(folder, PROMPTS[:USERS]), stop_ids(folder)
    alphas = {}
    for temperature in TEMPERATURES:
        sessions = {f"s{n}": list(ids) for n, ids in enumerate(prompts)}
        params = {name: SamplingParams(n + 1, target.vocab, temperature) for n, name in enumerate(sessions)}
        for name, ids in sessions.items():
            cache_context(target, name, ids[:-1], params[name])
        alphas[temperature] = _alpha(target, drafter, sessions, params, stops)
        tick(f"speculating at temperature {temperature:g}")
    return alphas


def _alpha(
    target: TargetModel,
    drafter: Drafter,
    sessions: dict[str, list[int]],
    params: Mapping[str, SamplingParams],
    stops: set[int],
) -> float:
    """α of cached sessions, which run to their end and are then freed."""
    accepted = rejected = 0
    goals = {name: len(ids) + TOKENS for name, ids in sessions.items()}
    while sessions:
        hits = speculate(target, drafter, sessions, params)
        accepted += sum(hits)
        rejected += sum(hit < K for hit in hits)
        for name, ids in list(sessions.items()):
            if len(ids) >= goals[name] or stops.intersection(ids[goals[name] - TOKENS :]):
                target.forget(name)
                drafter.forget(name)
                del sessions[name]
    return accepted / max(accepted + rejected, 1)


def speculate(
    target: TargetModel,
    drafter: Drafter,
    sessions: Mapping[str, list[int]],
    params: Mapping[str, SamplingParams],
) -> list[int]:
    """One round of all sessions: draft, verify in one pass, append the target's tokens. Accepted drafts by session."""
    drafts = draft_all(drafter, [DraftRequest(n, ids, K, params[n]) for n, ids in sessions.items()])
    rows = []
    for name, ids in sessions.items():
        target.admit(name, ids, list(sessions), len(ids) + K)
        rows.append(TargetRow(name, len(ids) - 1, [ids[-1], *drafts[name]], 1, True, params[name]))
    hits = []
    for (name, ids), choices in zip(sessions.items(), target.forward(rows), strict=True):
        hits.append(accept_chain(drafts[name], choices.tokens))
        ids.extend(choices.tokens[: hits[-1] + 1])
        target.keep(name, len(ids) - 1)
    return hits


def stop_ids(folder: Path) -> set[int]:
    """The target's stop tokens."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        stops = config.get("eos_token_id")
        if stops is not None:
            return set(stops if isinstance(stops, list) else [stops])
    return set()


def chat_prompts(folder: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts in the target's chat template, or of the plain prompts where it has none."""
    import transformers  # heavy

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template is None:
        return [list(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    chats = ([{"role": "user", "content": prompt}] for prompt in prompts)
    return [
        list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"])
        for chat in chats
    ]
