"""`python -m services.draft_worker.probe`: decodes and drafts once with llama.cpp on a tiny model.

Run it in a process of its own (services/draft_worker/proof.py does): a build that does not suit the CPU dies of a
signal. Prints the instruction sets that llama.cpp uses, before anything is computed.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import llama_cpp

from services.draft_worker.backends import load_backends
from services.draft_worker.llama_drafter import Limits, LlamaDrafter
from services.draft_worker.llama_model import ModelFileError
from services.draft_worker.tiny_model import CONTEXT, tiny_model
from shared.compute.drafter import Drafter, DraftRequest, DraftResult
from shared.speculative.params import SamplingParams

PREFILL: Final = 32  # tokens in one decode: two of AMX's blocks of 16 rows
DRAFTED: Final = 4  # then one token a decode


def main() -> None:
    """Exit code 0 when every request was served; else 1, and why in one line on stderr."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected and must not write a core file
    load_backends()
    print(llama_cpp.llama_print_system_info().decode(), flush=True)
    try:
        with tiny_file() as path:
            drafter = LlamaDrafter(path, Limits(sessions=1, kv_tokens=CONTEXT))
    except ModelFileError as error:
        sys.exit(str(error))
    missing = run_probe(drafter)
    drafter.close()
    sys.exit(missing or 0)


@contextmanager
def tiny_file() -> Iterator[Path]:
    """The tiny model as a file, in memory where the system allows it: a disk may be full or read-only."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("tiny.gguf"), "wb") as file:
            file.write(tiny_model())
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
    else:
        with NamedTemporaryFile(suffix=".gguf") as file:
            file.write(tiny_model())
            file.flush()
            yield Path(file.name)


def run_probe(drafter: Drafter) -> str:
    """Prefill in one decode, then draft token by token. Returns what went wrong, "" = nothing."""
    sampling = SamplingParams(seed=1, vocab=drafter.vocab)
    ids = list(range(PREFILL + 1))
    drafter.start(DraftRequest("probe", ids[:PREFILL], 0, sampling))
    results = run_until_idle(drafter)
    drafter.start(DraftRequest("probe", ids, DRAFTED, sampling))
    results += run_until_idle(drafter)
    for result, tokens in zip(results, (0, DRAFTED), strict=True):
        if result.error or len(result.tokens) != tokens:
            return f"llama.cpp drafted {len(result.tokens)} of {tokens} tokens: {result.error or 'no reason given'}"
    return ""


def run_until_idle(drafter: Drafter) -> list[DraftResult]:
    """Step until no request is under way; returns all results."""
    results = []
    while drafter.busy():
        results += drafter.step()
    return results


if __name__ == "__main__":
    main()
