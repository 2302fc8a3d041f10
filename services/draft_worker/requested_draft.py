"""A draft that was asked for, made best-first: a chain, or a tree where the drafter is not sure. Pure."""

from dataclasses import dataclass
from typing import Final

from shared.compute.draft_tree import DraftTree
from shared.compute.drafter import DraftRequest, DraftResult
from shared.compute.tree_drafter import ROOT
from shared.speculative.survival import to_byte

MIN_SURVIVAL: Final = 0.01  # of a node that is sent: less does not pay for its row


@dataclass(slots=True)
class RequestedDraft:
    """A request under way. since: arrival of its cause; started: of its computing, on the loop's clock (s).

    A request for k tokens may take k decodes, each of which expands the likeliest leaf. The k + siblings likeliest
    nodes are the draft. spent_us: computing time so far.
    """

    request: DraftRequest
    since: float
    started: float = 0.0
    expanded: int = 0
    spent_us: int = 0

    def leaf(self, tree: DraftTree) -> int | None:
        """The node to expand next; None when nothing that it leads to would be in the draft."""
        request = self.request
        if self.expanded >= request.k:
            return None
        (leaf,) = tree.frontier(1) or (None,)
        if leaf is None or leaf == ROOT:
            return leaf
        if to_byte(tree.survival(leaf)) < request.stop_below or tree.survival(leaf) < MIN_SURVIVAL:
            return None
        above = sum(node.score > tree.nodes[leaf].score for node in tree.nodes.values())
        return leaf if above + 1 < request.k + request.siblings else None

    def result(self, tree: DraftTree) -> DraftResult:
        """The draft: the likeliest nodes, each after its parent."""
        request = self.request
        likeliest = sorted(tree.nodes.values(), key=lambda node: (-node.score, node.number))
        chosen = likeliest[: request.k + request.siblings] if request.k else []
        chosen = [
            node for at, node in enumerate(chosen) if not at or tree.survival(node.number) >= MIN_SURVIVAL
        ]
        place = {node.number: at for at, node in enumerate(chosen)}
        parents = tuple(place.get(node.parent, ROOT) for node in chosen)
        return DraftResult(
            request.session,
            len(request.ids),
            tuple(node.token for node in chosen),
            bytes(to_byte(min(1.0, tree.survival(node.number))) for node in chosen),
            self.spent_us,
            parents=() if parents == tuple(range(-1, len(chosen) - 1)) else parents,
        )
