"""Reference decoding: the target alone in a plain transformers loop, with Outrider's sampler and nothing else of it.

    python -m cli.reference --model FOLDER --cases FILE --out FILE

Equality checks compare with these texts. Each text comes with its margin: the distance of its closest decision from
another token, in nats of log p (shared/speculative/margin.py). Finished cases are kept, so that a run can be resumed.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from shared.speculative.margin import draw_with_margin
from shared.speculative.params import SamplingParams


@dataclass(frozen=True, slots=True)
class Case:
    """One request: a user's chat message and the sampling parameters."""

    id: str
    prompt: str
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The target's tokens for a case, including the stop token if there was one, and the smallest margin in nats."""

    prompt_ids: list[int]
    tokens: list[int]
    margin: float


class Reference:
    """Decodes cases one after another. folder: model in transformers' format; dtype: of its weights."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self._model.train(mode=False)
        eos = self._model.generation_config.eos_token_id
        self._stops = set(eos if isinstance(eos, list) else [eos])

    def answer(self, case: Case) -> Answer:
        """Decode one case token by token."""
        messages = [{"role": "user", "content": case.prompt}]
        encoded = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        prompt_ids = [int(token) for token in encoded["input_ids"]]
        tokens, margin = [], float("inf")
        for token, gap in self._decode(prompt_ids, case):
            tokens.append(token)
            margin = min(margin, gap)
            if token in self._stops or len(tokens) == case.max_tokens:
                break
        return Answer(prompt_ids, tokens, margin)

    @torch.inference_mode()
    def _decode(self, prompt_ids: list[int], case: Case) -> Iterator[tuple[int, float]]:
        params = SamplingParams(case.seed, len(self._tokenizer), case.temperature, case.top_k, case.top_p)
        step, cache, position = torch.tensor([prompt_ids]), None, len(prompt_ids)
        while True:
            out = self._model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            token, gap = draw_with_margin(out.logits[0, -1].float().numpy(), params, position)
            yield token, gap
            step, cache, position = torch.tensor([[token]]), out.past_key_values, position + 1


def main(argv: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Decode cases with the target alone.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the target")
    parser.add_argument("--cases", type=Path, required=True, help="JSON list of cases")
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON of answers by case id; resumed if it exists"
    )
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's default")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    cases = [Case(**case) for case in json.loads(args.cases.read_text())]
    answers: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    missing = [case for case in cases if case.id not in answers]
    reference = Reference(args.model) if missing else None
    for number, case in enumerate(missing, 1):
        assert reference is not None  # noqa: S101  # for the type checker: `missing` is not empty
        answers[case.id] = asdict(reference.answer(case))
        partial = args.out.with_suffix(".part")
        partial.write_text(json.dumps(answers) + "\n")
        partial.replace(args.out)
        print(
            f"reference {number}/{len(missing)} {case.id} margin {answers[case.id]['margin']:.2e}", flush=True
        )
    if not missing:
        print(f"reference: {args.out} has all {len(cases)} cases", file=sys.stderr)


if __name__ == "__main__":
    main()
