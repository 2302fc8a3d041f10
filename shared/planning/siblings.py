"""How many more nodes than a chain a draft tree should have, by what they bring and cost. Pure.

A chain of k ends at its first wrong token. If the tree has a second candidate there that is right, the row yields one
token more. So a sibling at depth d brings P(the chain reaches d and is wrong there) · P(the sibling is right).
"""

from typing import Final

MARGIN: Final = 1.25  # a row has to bring so many times its cost, since both are estimates


def siblings_worth(k: int, alpha: float, second: float, row_ms: float, round_ms: float, users: int) -> int:
    """Nodes to add to a chain of k. alpha: probability that a drafted token is accepted; second: that a second
    candidate is right where the first is not. row_ms: cost of one more token in a pass, for which all its users wait;
    round_ms: time of a round.
    """
    wrong = 1 - alpha
    shares = (second, (1 - second) * second)
    gains = sorted((alpha**depth * wrong * share for depth in range(k) for share in shares), reverse=True)
    tokens = sum(alpha**depth for depth in range(k + 1))
    count = 0
    for gain in gains:
        if gain * round_ms < MARGIN * row_ms * tokens * users:
            break
        tokens, round_ms, count = tokens + gain, round_ms + row_ms, count + 1
    return count
