"""Differing tokens are counted one by one."""

import numpy as np

from cli.bench.drift import differing
from cli.models.measure import Sample
from shared.speculative.draw import draw
from shared.speculative.params import SamplingParams
from tests.services.verifier.tiny import VOCAB, build, configs, plain_logits, target

CONFIG = configs()["llama"]


def texts() -> list[Sample]:
    """Texts of a plain loop, more of them than go together in one pass."""
    plain = build(CONFIG)
    found = []
    for seed in range(11):
        params = SamplingParams(seed, VOCAB, 0.8)
        prompt, text = [seed + 1, 5, 9], list[int]()
        for _ in range(3 + seed):
            logits = plain_logits(plain, prompt + text)[-1].numpy()
            text.append(draw(logits, params, len(prompt) + len(text)))
        found.append(Sample(prompt, text, params))
    return found


def test_in_float32_nothing_differs() -> None:
    assert differing(target(CONFIG, kv_tokens=512), texts()) == [0] * 11


def test_each_difference_counts_once_and_only_where_it_is() -> None:
    samples = texts()
    rng = np.random.default_rng(3)
    for spoilt in (2, 10):  # the last token of a text changes no other's past
        sample = samples[spoilt]
        other = (sample.text[-1] + 1 + int(rng.integers(VOCAB - 1))) % VOCAB
        samples[spoilt] = Sample(sample.prompt, [*sample.text[:-1], other], sample.params)
    assert differing(target(CONFIG, kv_tokens=512), samples) == [int(i in (2, 10)) for i in range(11)]
