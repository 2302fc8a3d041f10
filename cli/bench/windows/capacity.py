"""The rate of requests at which a verifier with drafts of one fixed length is saturated, by the law."""

from collections.abc import Sequence
from statistics import fmean

from shared.compute.acceptance_record import AcceptanceRecord
from shared.planning.problem import Server
from shared.scenario.scenario import DeviceSpec


def tokens_per_round(hits: Sequence[bool], k: int) -> float:
    """Mean tokens of a round, the target's own included, along a recorded text with drafts of k tokens."""
    at = rounds = 0
    while at < len(hits):
        draft = hits[at : at + k]
        at += (draft.index(False) if False in draft else len(draft)) + 1
        rounds += 1
    return at / rounds


def saturating_rate(
    record: AcceptanceRecord,
    devices: Sequence[DeviceSpec],
    server: Server,
    k: int,
    prompt: float,
    answer: float,
) -> float:
    """Requests per second that one user on each device takes, all drafting k tokens and waiting for the slowest.

    record: texts of one temperature. prompt, answer: mean tokens of a request. A prompt's tokens cost what others do.
    """
    rows = len(devices)
    tokens = fmean(tokens_per_round(text.hits, k) for text in record.texts)
    away_ms = max(2 * (device.delay_ms + device.jitter_ms) + k * device.draft_ms for device in devices)
    cached = prompt + answer / 2

    def pass_ms(drafted: float) -> float:
        return float(server.verify_ms(rows, k, drafted, cached, rows * cached))

    token_ms = pass_ms(rows * k + 1) - pass_ms(rows * k)
    each_ms = answer / tokens * (away_ms + pass_ms(rows * k)) / rows + prompt * token_ms
    return 1e3 / each_ms
