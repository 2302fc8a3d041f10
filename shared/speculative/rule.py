"""The acceptance rule: drafted tokens are accepted as far as they equal the target's own.

`choices` are the target's own tokens (`draw.draw`), one after the committed prefix and one after each drafted token.
The longest drafted prefix that equals them is accepted. The next choice is the corrected token, or the bonus token when
all are equal. So the text is the target's, whatever was drafted.
"""

from collections.abc import Sequence


def accept_chain(draft: Sequence[int], choices: Sequence[int]) -> int:
    """Number of accepted tokens: length of the longest drafted prefix that equals the target's choices.

    draft: [k]. choices: [k + 1], the target's tokens at base_len .. base_len + k, each given the drafts before it. The
    tokens to commit are choices[: accepted + 1]; the last is the corrected token, or the bonus token when all are
    equal.
    """
    accepted = 0
    while accepted < len(draft) and draft[accepted] == choices[accepted]:
        accepted += 1
    return accepted


def accept_tree(draft: Sequence[int], parents: Sequence[int], choices: Sequence[int]) -> list[int]:
    """Accepted path through a draft tree, as node indices from the root down.

    draft, parents: [k]. Node i follows node parents[i] < i, or the committed prefix when parents[i] == -1. choices:
    [k + 1]; choices[0] is the target's token after the prefix, choices[i + 1] its token after node i. The tokens to
    commit are those of the path, then choices[path[-1] + 1], or choices[0] when the path is empty.
    """
    children = {(parents[i], draft[i]): i for i in reversed(range(len(draft)))}
    path: list[int] = []
    node = -1
    while (child := children.get((node, choices[node + 1]))) is not None:
        path.append(child)
        node = child
    return path


def spine(parents: Sequence[int]) -> list[int]:
    """Nodes of a tree on the path of first children, from the root on. parents: [k], as in `accept_tree`."""
    first = {parent: node for node, parent in reversed(list(enumerate(parents)))}
    nodes: list[int] = []
    at = -1
    while at in first:
        at = first[at]
        nodes.append(at)
    return nodes


def straight_steps(parents: Sequence[int], path: Sequence[int]) -> int:
    """How many nodes of an accepted path are on the spine."""
    pairs = zip(spine(parents), path, strict=False)
    return next(
        (at for at, (mine, own) in enumerate(pairs) if mine != own), min(len(path), len(spine(parents)))
    )
