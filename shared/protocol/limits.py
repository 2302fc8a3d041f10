"""Limits of the protocol. A message beyond one of them is refused, counted and dead-lettered."""

from typing import Final

PROTOCOL_VERSION: Final = 6  # first byte of every message

MAX_MESSAGE_BYTES: Final = 1 << 20
EMPTY_LOG_BYTES: Final = 3  # msgpack of an Open's two log fields when both are empty
MAX_TOKEN_ID: Final = (1 << 24) - 1
MAX_RATE_BITS_S: Final = 1_000_000_000_000  # of a share of a cell
MAX_DRAFT: Final = 64  # drafted tokens in one row, chain or tree
MAX_ROWS: Final = 512  # rows in one staged batch
MAX_POSITION: Final = (1 << 20) - 1  # absolute position of a token in its session
MAX_TOP_LOGPROBS: Final = 20
MAX_STOP_IDS: Final = 64
MAX_TEMPERATURE: Final = 100.0
MAX_DURATION_US: Final = 3_600_000_000  # one hour
MAX_DELIVERIES: Final = 3  # a batch delivered this often is run row by row

# Committed tokens in one message to a device that does not draft (next_k = 0), to save messages.
BLOCK_TOKENS: Final = 32

LOG_KEPT_S: Final = 60  # lifetime of a closed session's log, for messages still under way
# Entries of an inbox or reply stream. The oldest are deleted beyond it; a reader that sees the gap reads the log.
INBOX_CAP: Final = 4096
INBOX_KEPT_S: Final = 60  # lifetime of an inbox, reply or staged stream without a heartbeat
DEAD_CAP: Final = 1000  # entries of the dead stream
DEAD_BYTES: Final = 4096  # bytes kept of a refused message
DEAD_KEPT_S: Final = 604_800  # lifetime of the dead stream: one week
TRACE_CAP: Final = 100_000  # entries of the trace stream
TRACE_KEPT_S: Final = 3600
GRACE_S: Final = 5.0  # streams are only paused while the broker is away for less than this
HEARTBEAT_S: Final = 1.0
HEARTBEAT_TTL_S: Final = 4.0
LEASE_TTL_S: Final = 3.0
