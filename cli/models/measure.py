"""Measures a GGUF draft: its agreement with a target, and the duration of a decode.

Independent of the draft worker on purpose: one context, no sessions, only llama.cpp's own calls.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cli.command.errors import ModelError
from loadgen.measuring.timing import times_s
from shared.compute.acceptance_record import TAIL, RecordedText
from shared.speculative.draw import draw, draw_sure
from shared.speculative.params import SamplingParams
from shared.speculative.survival import to_byte

CONTEXT: Final = 1024
EXCLUDED: Final = 1e4  # below all other logits: never drawn
PROMPTS: Final = (
    "Write a Python function that checks whether a string is a palindrome.",
    "Explain to a child why the sky is blue.",
    "List five tips for saving energy at home, one sentence each.",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "What is 12 times 15? Show the steps.",
    "Summarise in two sentences what a database index does.",
    "Write a polite e-mail that asks a colleague for the figures of last month.",
    "Describe how to plant a tomato seedling, step by step.",
    "Name three differences between a train and a bus.",
    "Write a four-line poem about rain.",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and the target's own continuation, decoded by the target alone."""

    prompt: Sequence[int]
    text: Sequence[int]
    params: SamplingParams


def samples(
    target: Path,
    tokens: int,
    temperatures: Sequence[float],
    dtype: str = "auto",
    *,
    tick: Callable[[], object] = lambda: None,
) -> list[Sample]:
    """The target's text for every prompt and temperature, up to its stop token or `tokens` tokens. tick: after each."""
    import torch  # heavy, like transformers
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(target)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=dtype)
    model.eval()
    stops = model.generation_config.eos_token_id
    stops = set(stops if isinstance(stops, list) else [stops])
    texts = []
    for temperature in temperatures:
        for seed, prompt in enumerate(PROMPTS):
            message = [{"role": "user", "content": prompt}]
            ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)[
                "input_ids"
            ]
            params = SamplingParams(seed, len(tokenizer), temperature)
            text: list[int] = []
            step, cache = torch.tensor([ids]), None
            while len(text) < tokens and not (text and text[-1] in stops):
                with torch.inference_mode():
                    out = model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
                text.append(draw(out.logits[0, -1].float().numpy(), params, len(ids) + len(text)))
                step, cache = torch.tensor([[text[-1]]]), out.past_key_values
            texts.append(Sample(ids, text, params))
            tick()
    return texts


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drafted token, the second choice under the same noise, and the token's probability in 255ths."""

    token: int
    second: int
    confidence: int


def _drawn(logits: npt.NDArray[np.float32], params: SamplingParams, position: int) -> Drawn:
    scores = logits[: params.vocab].astype(np.float64)
    token, probability = draw_sure(scores, params, position)
    scores[token] = scores.min() - EXCLUDED
    return Drawn(token, draw(scores, params, position), to_byte(probability))


class DraftModel:
    """A GGUF model with one small context, on one thread."""

    def __init__(self, path: Path, sequences: int = 4) -> None:
        import llama_cpp  # a native library

        from services.draft_worker.backends import load_backends
        from services.draft_worker.llama_log import keep_errors, reason

        self._lib = llama_cpp
        keep_errors()
        load_backends()
        self._model: Any = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise ModelError(f"{path}: llama.cpp cannot load it: {reason()}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, CONTEXT, CONTEXT
        params.n_seq_max, params.kv_unified = sequences, True
        params.n_threads = params.n_threads_batch = 1
        self._context: Any = llama_cpp.llama_init_from_model(self._model, params)
        self._batch: Any = llama_cpp.llama_batch_init(CONTEXT, 0, 1)
        self._rows = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def __enter__(self) -> "DraftModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def agreement(self, sample: Sample) -> list[bool]:
        """For each token of the target's text: whether the draft chooses the same, given all tokens before it."""
        ids = [*sample.prompt, *sample.text]
        self._clear()
        self._decode([(token, at, 0) for at, token in enumerate(ids)], logits_from=len(sample.prompt) - 1)
        choices = [
            draw(self._logits(at - 1), sample.params, at) for at in range(len(sample.prompt), len(ids))
        ]
        return [a == b for a, b in zip(choices, sample.text, strict=True)]

    def logits(self, sample: Sample) -> Iterator[npt.NDArray[np.float32]]:
        """The draft's logits at each token of the target's text, given all tokens before it; valid until the next."""
        ids, first = [*sample.prompt, *sample.text], len(sample.prompt)
        self._clear()
        self._decode([(token, at, 0) for at, token in enumerate(ids)], logits_from=first - 1)
        for at in range(first, len(ids)):
            yield self._logits(at - 1)

    def record(self, sample: Sample) -> RecordedText:
        """What the draft does at each position of the target's text, and after each of its misses."""
        ids, first = [*sample.prompt, *sample.text], len(sample.prompt)
        self._clear()
        self._decode([(token, at, 0) for at, token in enumerate(ids)], logits_from=first - 1)
        drawn = [_drawn(self._logits(at - 1), sample.params, at) for at in range(first, len(ids))]
        hits = tuple(one.token == token for one, token in zip(drawn, sample.text, strict=True))
        seconds = tuple(one.second == token for one, token in zip(drawn, sample.text, strict=True))
        tails = {
            n: bytes(self._tail(drawn[n].token, first + n, sample.params))
            for n in range(len(drawn))
            if not hits[n]
        }
        confidence = bytes(one.confidence for one in drawn)
        return RecordedText(sample.params.temperature, sample.params.seed, hits, seconds, confidence, tails)

    def _tail(self, token: int, at: int, params: SamplingParams) -> Iterator[int]:
        """Confidences of the tokens that are drafted after a wrong token at a position."""
        memory = self._lib.llama_get_memory(self._context)
        self._lib.llama_memory_seq_cp(memory, 0, 1, 0, at)
        for position in range(at, at + TAIL):
            self._decode([(token, position, 1)], 0)
            drawn = _drawn(self._logits(0), params, position + 1)
            token = drawn.token
            yield drawn.confidence
        self._lib.llama_memory_seq_rm(memory, 1, -1, -1)

    def ms_per_decode(self, sequences: int, context: int, steps: int) -> float:
        """Median milliseconds of a decode of one token per sequence, greedy choice included."""
        self._clear()
        for sequence in range(sequences):
            self._decode([(token % self._rows, token, sequence) for token in range(context)], context - 1)
        tokens, position = [1] * sequences, itertools.count(context)

        def decode() -> None:
            at = next(position)
            self._decode([(token, at, sequence) for sequence, token in enumerate(tokens)], 0)
            tokens[:] = [int(self._logits(sequence).argmax()) for sequence in range(sequences)]

        return 1e3 * median(times_s(decode, steps, warm_ups=0))

    def ms_per_prompt(self, tokens: int, repeats: int) -> float:
        """Median milliseconds of reading a prompt in one decode."""

        def read() -> None:
            self._clear()
            self._decode([(token % self._rows, token, 0) for token in range(tokens)], tokens - 1)

        return 1e3 * median(times_s(read, repeats, warm_ups=1))

    def _decode(self, rows: Sequence[tuple[int, int, int]], logits_from: int) -> None:
        """Decode rows of (token, position, sequence); logits are kept from index logits_from on."""
        for index, (token, position, sequence) in enumerate(rows):
            self._batch.token[index] = token
            self._batch.pos[index] = position
            self._batch.n_seq_id[index] = 1
            self._batch.seq_id[index][0] = sequence
            self._batch.logits[index] = index >= logits_from
        self._batch.n_tokens = len(rows)
        code = self._lib.llama_decode(self._context, self._batch)
        if code != 0:
            raise ModelError(f"llama.cpp could not decode {len(rows)} tokens (code {code})")

    def _logits(self, index: int) -> npt.NDArray[np.float32]:
        at = self._lib.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(at, shape=(self._rows,))

    def _clear(self) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
