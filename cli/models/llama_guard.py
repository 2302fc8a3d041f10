"""Refuses to load a llama.cpp that dies on this CPU."""

import sys
from functools import cache

from cli.command.errors import ModelError


@cache
def require_llama() -> None:
    """Prove, once per process, that llama.cpp decodes and drafts here. Raises ModelError with the fix if it fails.

    The proof runs in a child process: an illegal instruction would end this one without a message. A proof that was
    killed or timed out says nothing about llama.cpp, so it is only reported.
    """
    from services.draft_worker import proof

    outcome = proof.prove()
    if outcome.works:
        return
    if outcome.conclusive:
        raise ModelError(proof.failure_message(outcome))
    print(f"llama.cpp is not proved: {outcome.error}", file=sys.stderr)
