"""The operating points of the DiP-SD paper and its two baselines.

Qwen3-1.7B drafts on an RTX 3090, Qwen3-32B verifies on an A100 with 80 GB; prefix 512, link 3 ms.
Source: Xu, Zhou, Niu, "DiP-SD", arXiv 2604.20919.
"""

from shared.planning.cost import Padded, Shape
from shared.planning.problem import LengthBounds, PaddedServer, Problem, User

DEVICE = Padded(beta_ms=33.8151, ms_per_operation=4.0305e-11, layers=28, hidden=2048, feed_forward=6144)
SERVER = Padded(beta_ms=95.1074, ms_per_operation=1.2077e-11, layers=64, hidden=5120, feed_forward=25600)
MEMORY_BYTES = 8.0e10
PREFIX = 512
COMM_MS = 3.0
MAX_DRAFT = 20
ALPHA = 0.78


def draft_ms(prefix: int = PREFIX) -> float:
    """g: milliseconds of one drafted token on the paper's device."""
    return float(DEVICE.pass_ms(Shape(1, 1, 1, prefix, prefix)))


def equal_users(users: int, alpha: float = ALPHA, *, min_draft: int = 1) -> Problem:
    """The paper's setting with this many equal users."""
    everyone = tuple(User(f"u{m + 1}", alpha, PREFIX, draft_ms(), COMM_MS) for m in range(users))
    return Problem(everyone, PaddedServer(SERVER, MEMORY_BYTES), LengthBounds(MAX_DRAFT, min_draft))


def autoregressive_tokens_per_s(problem: Problem) -> float:
    """AD: autoregressive decoding, one user after another, one token a step, no link. Tokens per second."""
    steps = [float(problem.server.verify_ms(1, 0, 0, user.prefix, user.prefix)) for user in problem.users]
    return 1e3 * len(steps) / sum(steps)


def greedy_batch_tokens_per_s(problem: Problem) -> float:
    """AD with greedy batching: all users in one batch, one token a step, no link. Tokens per second."""
    prefixes = [user.prefix for user in problem.users]
    step = problem.server.verify_ms(len(prefixes), 0, 0, max(prefixes), sum(prefixes))
    return 1e3 * len(prefixes) / float(step)
