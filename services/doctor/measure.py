"""What drafting and verifying cost here, and how often the two models agree: the real ones, in this process."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.models.measure import PROMPTS
from shared.compute.drafter import Drafter, DraftRequest
from shared.compute.target import TargetModel, TargetRow
from shared.speculative.params import SamplingParams
from shared.speculative.rule import accept_chain

CONTEXT: Final = 128  # committed tokens of each session while a cost is measured
SESSIONS: Final = (1, 2, 4)  # in one decode of the draft model
USERS: Final = (1, 4, 8)  # rows of a pass of the target
WIDTHS: Final = (1, 2, 3, 5, 9)  # new tokens a row
REPEATS: Final = 5
ALPHA_USERS: Final = 4
ALPHA_TOKENS: Final = 48
ALPHA_K: Final = 4


def draft_ms(drafter: Drafter, tokens: int = 12) -> dict[int, float]:
    """Milliseconds of one decode of the draft model, by sessions in it."""
    sampling = SamplingParams(seed=1, vocab=drafter.vocab)
    found = {}
    for sessions in SESSIONS:
        names = [f"s{n}" for n in range(sessions)]
        prompts = [[(n * 31 + at) % drafter.vocab for at in range(CONTEXT)] for n in range(sessions)]
        for name, prompt in zip(names, prompts, strict=True):
            draft_all(drafter, [DraftRequest(name, prompt, 1, sampling)])
        took = []
        for _ in range(REPEATS):
            requests = [DraftRequest(n, p, tokens, sampling) for n, p in zip(names, prompts, strict=True)]
            start = time.perf_counter()
            draft_all(drafter, requests)
            took.append((time.perf_counter() - start) * 1e3 / tokens)
        found[sessions] = statistics.median(took)
        for name in names:
            drafter.forget(name)
    return found


def verify_ms(target: TargetModel) -> dict[int, dict[int, float]]:
    """Milliseconds of one pass of the target, by rows, then by new tokens a row."""
    sampling = SamplingParams(seed=1, vocab=target.vocab)
    found: dict[int, dict[int, float]] = {}
    for users in USERS:
        names = [f"s{n}" for n in range(users)]
        for n, name in enumerate(names):
            prompt = [(n * 31 + at) % target.vocab for at in range(CONTEXT)]
            feed(target, name, prompt, sampling)
        found[users] = {width: pass_ms(target, names, width, sampling) for width in WIDTHS}
        for name in names:
            target.forget(name)
    return found


def pass_ms(target: TargetModel, names: Sequence[str], width: int, sampling: SamplingParams) -> float:
    """Median milliseconds of a pass over these sessions, one committed and width - 1 drafted tokens each."""
    took = []
    for _ in range(REPEATS):
        for name in names:
            target.admit(name, (), names, CONTEXT + width)
        rows = [TargetRow(name, CONTEXT, range(1, width + 1), 1, True, sampling) for name in names]
        start = time.perf_counter()
        target.forward(rows)
        took.append((time.perf_counter() - start) * 1e3)
        for name in names:
            target.keep(name, CONTEXT)
    return statistics.median(took)


def alpha(
    target: TargetModel, drafter: Drafter, folder: Path, temperatures: Sequence[float]
) -> dict[float, float]:
    """α by temperature: accepted / (accepted + rounds that ended in a rejection), a few prompts at once."""
    prompts, stops = chat_prompts(folder)[:ALPHA_USERS], stop_ids(folder)
    found = {}
    for temperature in temperatures:
        sessions = {f"s{n}": list(ids) for n, ids in enumerate(prompts)}
        params = {name: SamplingParams(n + 1, target.vocab, temperature) for n, name in enumerate(sessions)}
        for name, ids in sessions.items():
            feed(target, name, ids[:-1], params[name])
        accepted = rejected = 0
        goals = {name: len(ids) + ALPHA_TOKENS for name, ids in sessions.items()}
        while sessions:
            hits = speculate(target, drafter, sessions, params)
            accepted += sum(hits)
            rejected += sum(hit < ALPHA_K for hit in hits)
            for name, ids in list(sessions.items()):
                if len(ids) >= goals[name] or stops.intersection(ids[max(goals[name] - ALPHA_TOKENS, 0) :]):
                    target.forget(name)
                    drafter.forget(name)
                    del sessions[name]
        found[temperature] = accepted / max(accepted + rejected, 1)
    return found


def speculate(
    target: TargetModel,
    drafter: Drafter,
    sessions: Mapping[str, list[int]],
    params: Mapping[str, SamplingParams],
) -> list[int]:
    """One round of all sessions: draft, verify in one pass, append what the target says. Accepted, by session."""
    drafts = draft_all(drafter, [DraftRequest(n, ids, ALPHA_K, params[n]) for n, ids in sessions.items()])
    rows = []
    for name, ids in sessions.items():
        target.admit(name, ids, list(sessions), len(ids) + ALPHA_K)
        rows.append(TargetRow(name, len(ids) - 1, [ids[-1], *drafts[name]], 1, True, params[name]))
    hits = []
    for (name, ids), choices in zip(sessions.items(), target.forward(rows), strict=True):
        hits.append(accept_chain(drafts[name], choices.tokens))
        ids.extend(choices.tokens[: hits[-1] + 1])
        target.keep(name, len(ids) - 1)
    return hits


def draft_all(drafter: Drafter, requests: Sequence[DraftRequest]) -> dict[str, tuple[int, ...]]:
    """Run requests to their end; drafted tokens by session."""
    drafts = {}
    for request in requests:
        drafter.start(request)
    while drafter.busy():
        for result in drafter.step():
            drafts[result.session] = result.tokens
    return drafts


def feed(target: TargetModel, name: str, ids: Sequence[int], sampling: SamplingParams) -> None:
    """Cache a new session's tokens."""
    target.admit(name, ids, [name], len(ids))
    start = target.cached(name)
    target.forward([TargetRow(name, start, ids[start:], len(ids) - start, False, sampling)])


def stop_ids(folder: Path) -> set[int]:
    """Tokens that end the target's text."""
    stops = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    return set(stops if isinstance(stops, list) else [stops])


def chat_prompts(folder: Path) -> list[list[int]]:
    """Token ids of some chat requests, by the target's own template."""
    import transformers  # noqa: PLC0415  # heavy; wanted only here

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    return [
        list(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
            )["input_ids"]
        )
        for prompt in PROMPTS
    ]
