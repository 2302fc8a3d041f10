"""The broker's Lua scripts. Each is atomic: it takes effect completely or, if it is refused, not at all.

Scripts marked allow-oom also run on a broker whose memory is full: they let present sessions go on and end, which frees
memory. `submit` is not marked, so that new sessions are refused.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Final

from shared.protocol import limits
from shared.protocol.keys import GROUP, STAGED
from shared.protocol.messages import Verdict

_FOLDER: Final = Path(__file__).parent / "scripts"
_LIMITS: Final = (
    "MAX_MESSAGE_BYTES",
    "EMPTY_LOG_BYTES",
    "BLOCK_TOKENS",
    "LOG_KEPT_S",
    "INBOX_CAP",
    "INBOX_KEPT_S",
    "DEAD_CAP",
    "DEAD_KEPT_S",
    "TRACE_CAP",
    "TRACE_KEPT_S",
)


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text for EVAL, and its digest for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """`scripts/<name>.lua` behind the constants and functions that all scripts share."""
    own = (_FOLDER / f"{name}.lua").read_text()
    flags, body = own.split("\n", 1) if own.startswith("#!") else ("#!lua", own)
    text = "\n".join([flags, _constants(), (_FOLDER / "common.lua").read_text(), body])
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _constants() -> str:
    """Limits, and the index of each field in a Verdict's array (Lua counts from 1, the tag is first)."""
    places = ", ".join(f"{field.name} = {place}" for place, field in enumerate(fields(Verdict), start=2))
    return "\n".join(
        [
            f"local GROUP, VERSION = '{GROUP}', string.char({limits.PROTOCOL_VERSION})",
            f"local STAGED = '{STAGED}'",
            *(f"local {name} = {getattr(limits, name)}" for name in _LIMITS),
            f"local VERDICT = {{{places}}}",
        ]
    )
