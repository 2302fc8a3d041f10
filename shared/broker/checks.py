"""Checks of arguments and stored values that both brokers share."""

from collections.abc import Iterable, Sequence
from typing import cast, get_args

from shared.broker.contract import CommitRow
from shared.protocol import wire
from shared.protocol.messages import Close, Finish, Heartbeat


def check_close(close: Close) -> None:
    """Raises ValueError without a finish: such a Close only removes a session from its reader."""
    if not close.finish:
        raise ValueError(f"session {close.session} cannot end without a finish")


def check_rows(rows: Sequence[CommitRow]) -> None:
    """Raises ValueError when a row's length or logprobs do not fit its tokens."""
    for verdict in (row.verdict for row in rows if row.verdict.status == "ok"):
        if verdict.length != verdict.base_len + len(verdict.tokens):
            raise ValueError(f"verdict of {verdict.session}: length is not base_len + tokens")
        if len(verdict.logprobs) not in (0, len(verdict.tokens)):
            raise ValueError(f"verdict of {verdict.session}: one entry of logprobs per token, or none")


def heartbeats(messages: Iterable[bytes]) -> list[Heartbeat]:
    """The heartbeats that decode. Others are left out: their processes speak another protocol."""
    found = []
    for data in messages:
        try:
            found.append(wire.decode_as(Heartbeat, data))
        except wire.WireError:
            continue
    return found


def as_finish(text: str) -> Finish:
    """A stored finish. Raises ValueError for any other text."""
    if text not in get_args(Finish):
        raise ValueError(f"{text!r} is no finish")
    return cast(Finish, text)
