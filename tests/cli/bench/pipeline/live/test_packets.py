"""The packets of a live pipeline and their activations."""

import pytest

from cli.bench.pipeline.live.hidden import ROW_NUMBERS, check, embed, passed, to_bytes, to_tensor
from cli.bench.pipeline.live.packets import (
    Decided,
    End,
    Packet,
    Piece,
    Report,
    Turn,
    TurnOver,
    pack,
    unpack,
)
from services.verifier.stages.link import LinkBroken
from services.verifier.stages.messages import Ready, Result, decode, encode
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Pass

ROWS = (Row(0, 4, -1, 2**31 - 1, 4), Row(1, 5, 4, 12, 5))


@pytest.mark.parametrize(
    "packet",
    [
        Piece(ROWS),
        Piece(ROWS, b"abc", held=True),
        Piece(()),
        Decided(3, 17),
        Turn(),
        TurnOver(),
        Report((Pass(1, 0.5, 0.75, 3, 1),), 12, 34567),
        End(),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_packets_come_back_from_the_messages_of_the_ring(packet: Packet) -> None:
    found, posted_s = unpack(decode(encode(pack(packet, 12.345678))))
    assert found == packet
    assert posted_s == pytest.approx(12.345678)


@pytest.mark.parametrize(
    "message",
    [Ready(), Result(1, b""), Result(1, b"\x91\x63"), Result(1, b"\x92\x02\x01"), Result(1, b"\x01")],
)
def test_other_messages_are_refused(message: object) -> None:
    with pytest.raises(LinkBroken):
        unpack(message)


def test_activations_have_the_size_of_the_law_and_show_their_way() -> None:
    data = to_bytes(embed(ROWS))
    assert len(data) == len(ROWS) * ROW_NUMBERS * 2 == 20_000
    hidden = passed(passed(to_tensor(data, 2), [0, 1]), [1])
    check(hidden, ROWS[1:], 2)
    for rows, stages in ((ROWS[:1], 2), (ROWS[1:], 3)):
        with pytest.raises(LinkBroken, match="activations do not belong"):
            check(hidden, rows, stages)


def test_activations_of_another_number_of_rows_are_refused() -> None:
    with pytest.raises(LinkBroken, match="3 rows with 20000 bytes"):
        to_tensor(to_bytes(embed(ROWS)), 3)
    assert to_tensor(b"", 0).shape == (0, ROW_NUMBERS)
