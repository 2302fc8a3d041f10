"""Chooses cases all of whose decisions have a margin. It was run once; the result is committed.

    python -m tests.exactness.choose --model FOLDER

Equality in float32 is empirical: packing changes log p by up to ~5e-5, so a closer decision may flip. For every bundled
prompt and sampling setting, the first seed whose margins are all above MARGIN is chosen. Writes
tests/exactness/cases.json (32 tokens each) and loadgen/prompts/demo.json (64 tokens each).
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from cli.reference import Case, Reference
from loadgen import prompts

MARGIN = 1e-3  # nats of log p
SEEDS = range(1, 9)
SAMPLINGS = {"greedy": (0.0, 1.0), "warm": (0.7, 1.0), "nucleus": (1.0, 0.9)}  # name: temperature, top-p
HERE = Path(__file__).parent
DEMO_KINDS = ("code", "code", "maths", "maths", "chat", "chat", "summary", "creative")


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Choose the cases of the equality suite.")
    parser.add_argument("--model", type=Path, required=True)
    reference = Reference(parser.parse_args().model)
    cases = []
    for prompt in prompts.bundled()[:24]:
        for name, (temperature, top_p) in SAMPLINGS.items():
            case = choose(reference, f"{prompt.id}-{name}", prompt.prompt, 32, temperature, top_p)
            if case:
                cases.append(case)
                print(case["id"], f"{case['margin']:.1e}", flush=True)
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    demo: list[dict[str, object]] = []
    waiting = list(DEMO_KINDS)
    for prompt in reversed(prompts.bundled()[:32]):  # the prompts that existed when the cases were chosen
        if prompt.kind not in waiting:
            continue
        temperature, top_p = ((0.0, 1.0), (0.7, 0.9))[len(demo) % 2]
        case = choose(reference, prompt.id, prompt.prompt, 64, temperature, top_p)
        if case and len(case["tokens"]) == 64:  # type: ignore[arg-type]  # a list, see `choose`
            waiting.remove(prompt.kind)
            demo.append({key: case[key] for key in ("id", "prompt", "temperature", "top_p", "seed")})
            print("demo", case["id"], f"{case['margin']:.1e}", flush=True)
    (Path(prompts.__file__).parent / "demo.json").write_text(json.dumps(demo, indent=1) + "\n")


def choose(
    reference: Reference, id: str, prompt: str, max_tokens: int, temperature: float, top_p: float
) -> dict[str, object] | None:
    """The case with the first seed whose margins suffice, with its tokens and margin; None = no such seed."""
    for seed in SEEDS:
        case = Case(id, prompt, max_tokens, temperature, top_p, 0, seed)
        answer = reference.answer(case)
        if answer.margin > MARGIN:
            return {**asdict(case), "tokens": answer.tokens, "margin": answer.margin}
        if temperature == 0.0:
            return None
    return None


if __name__ == "__main__":
    main()
