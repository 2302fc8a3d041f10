"""transformers' own generation as a baseline: jobs as JSON lines on stdin, results as JSON lines on stdout.

    python -m cli.bench.verifier.generate --target FOLDER [--assistant FOLDER] [--dtype bfloat16] [--threads 2]

A job {"prompts": [...], "tokens": 64, "assisted": false} is answered with {"seconds": ..., "texts": [[ids], ...]}.
Prompts are chat messages; with "raw": true they are texts to be continued by exactly `tokens` tokens. "attention":
"eager" or "sdpa" sets the target's attention from this job on. Greedy. Assisted generation takes one prompt at a time
(transformers allows no batch), so several run one after another; plain generation takes them as one padded batch.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class GenerateBaseline:
    """A target and its assistant in transformers, with its defaults."""

    def __init__(self, target: Path, assistant: Path | None, dtype: str) -> None:
        factory: Any = AutoModelForCausalLM
        self._tokenizer: Any = AutoTokenizer.from_pretrained(target, padding_side="left")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._target: Any = factory.from_pretrained(target, dtype=dtype).eval()
        self._assistant: Any = None
        if assistant is not None:
            self._assistant = factory.from_pretrained(assistant, dtype=self._target.dtype).eval()
        self._greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], tokens: int, assisted: bool) -> list[list[int]]:
        """Token ids of each answer, including the stop token if there was one."""
        if assisted and len(prompts) > 1:
            return [answer for prompt in prompts for answer in self.generate([prompt], tokens, True)]
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        inputs = self._tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        how = {**self._greedy, **({"assistant_model": self._assistant} if assisted else {})}
        output = self._target.generate(**inputs, max_new_tokens=tokens, **how)
        answers: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._up_to_stop(answer) for answer in answers]

    def attend(self, how: str) -> None:
        """Use this attention implementation from now on."""
        self._target.set_attn_implementation(how)

    @torch.inference_mode()
    def continued(self, prompts: Sequence[str], tokens: int) -> list[list[int]]:
        """Token ids of each prompt and of exactly `tokens` tokens after it, as one padded batch."""
        inputs = self._tokenizer(list(prompts), return_tensors="pt", padding=True)
        output = self._target.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, **self._greedy)
        whole: list[list[int]] = output.tolist()
        padding = (inputs["attention_mask"] == 0).sum(dim=1).tolist()
        return [ids[skip:] for ids, skip in zip(whole, padding, strict=True)]

    def _up_to_stop(self, answer: list[int]) -> list[int]:
        """The answer up to its first stop token, without the padding."""
        stops = self._target.generation_config.eos_token_id
        ends = [
            i for i, token in enumerate(answer) if token in (stops if isinstance(stops, list) else [stops])
        ]
        return answer[: ends[0] + 1] if ends else answer


def main() -> None:
    """Answer jobs until stdin ends."""
    parser = argparse.ArgumentParser(description="Answer generation jobs with transformers alone.")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--assistant", type=Path)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's default")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    baseline = GenerateBaseline(args.target, args.assistant, args.dtype)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "attention" in job:
            baseline.attend(job["attention"])
        begun = time.perf_counter()
        if job.get("raw"):
            texts = baseline.continued(job["prompts"], job["tokens"])
        else:
            texts = baseline.generate(job["prompts"], job["tokens"], job["assisted"])
        print(json.dumps({"seconds": time.perf_counter() - begun, "texts": texts}), flush=True)


if __name__ == "__main__":
    main()
