"""The trees of a device's sessions: what to expand next, and what to send. Pure.

A tree is asked for, once in a round (`RequestedDraft`), or grows without end for a session that its verifier keeps.

A verdict says where the tree hangs that the verifier works on. While that stays the same, its nodes have the numbers
in which they were first sent. When another begins, nodes that are still alive here are sent again, with new numbers:
the verifier may have lost them, or decided before they came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from services.draft_worker.requested_draft import RequestedDraft
from shared.compute.draft_tree import DraftTree, Node
from shared.compute.drafter import DraftResult
from shared.compute.tree_drafter import ROOT, GrowRequest, Growth
from shared.protocol.limits import MAX_DRAFT
from shared.speculative.params import SamplingParams
from shared.speculative.survival import to_byte

MIN_SURVIVAL: Final = 0.01  # of a node that is expanded
EXPANDED: Final = 2  # nodes of one decode, of all sessions together


@dataclass(frozen=True, slots=True)
class Grow:
    """Grow the tree of a session with these tokens, prompt included. hangs_from: as in Verdict.tree."""

    session: str
    ids: tuple[int, ...]
    sampling: SamplingParams
    hangs_from: int


@dataclass(frozen=True, slots=True)
class StopGrowing:
    """Drop a session's tree."""

    session: str


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes to send; the fields are those of Draft."""

    session: str
    hangs_from: int
    first_node: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    survival: bytes
    draft_us: int = 0


@dataclass(slots=True)
class GrownTree:
    """One session's tree, as the drafter has it.

    requested: what the scheduler waits for. hangs_from: of the tree that grows without end, 0 = there is none. sent: the
    verifier's numbers of its nodes, by our own.
    """

    ids: tuple[int, ...]
    sampling: SamplingParams
    tree: DraftTree
    requested: RequestedDraft | None = None
    missing: int = -1  # tokens to feed before the root; -1 = not known
    hangs_from: int = 0
    sent: dict[int, int] = field(default_factory=dict)
    next_number: int = 0
    stalled: bool = False  # no more drafts before the next verdict
    error: str = ""  # why there are no more at all

    def move(self, ids: tuple[int, ...]) -> None:
        """Take over the committed tokens."""
        known = len(self.ids)
        if ids[:known] == self.ids:
            self.tree.advance(ids[known:])
        else:
            self.tree.restart(len(ids))
        self.ids, self.missing, self.stalled = ids, -1, False

    def request(self, requested: RequestedDraft) -> None:
        """Draft what is asked for, and no further."""
        self.move(tuple(requested.request.ids))
        self.requested, self.hangs_from, self.sent = requested, 0, {}

    def follow(self, order: Grow) -> list[Nodes]:
        """Take over the committed tokens and grow without end. Returns nodes to send again."""
        self.move(order.ids)
        self.requested, tree = None, self.tree
        if order.hangs_from == self.hangs_from:
            self.sent = {node: n for node, n in self.sent.items() if node == tree.root or node in tree.nodes}
            return []
        self.hangs_from, self.next_number = order.hangs_from, 0
        # The middle of a tree whose beginning we never saw has no number that we could name.
        self.sent = {tree.root: ROOT} if order.hangs_from == len(order.ids) else {}
        return self._to_send(order.session, tree.nodes.values())

    def take(self, growth: Growth) -> list[Nodes]:
        """Take an answer to a request with our present tokens. Returns its nodes, to send."""
        self.error, self.missing = growth.error, growth.missing
        self.stalled = not (growth.expansions or growth.missing)
        if self.requested is not None:
            self.requested.expanded += len(growth.expansions)
            self.requested.spent_us += growth.draft_us
        found: list[Node] = []
        for expansion in growth.expansions:
            self.tree.add(expansion)
            found += self.tree.children(expansion.node)
        return self._to_send(growth.session, found, growth.draft_us)

    def leaves(self) -> list[int]:
        """Nodes of a tree without end to expand next, the likeliest first; ROOT for the root."""
        if self.stalled or self.error or not self.hangs_from:
            return []
        return [
            node
            for node in self.tree.frontier(EXPANDED)
            if node == ROOT or self.tree.survival(node) >= MIN_SURVIVAL
        ]

    def done(self) -> DraftResult | None:
        """What was asked for, once it is there, or why it will not be."""
        if self.requested is None:
            return None
        request = self.requested.request
        if self.error:
            return DraftResult(request.session, len(self.ids), (), b"", self.requested.spent_us, self.error)
        over = self.stalled or self.requested.leaf(self.tree) is None if request.k else self.missing == 0
        return self.requested.result(self.tree) if over else None

    def _to_send(self, session: str, nodes: Iterable[Node], draft_us: int = 0) -> list[Nodes]:
        """Messages with these nodes, in our order; children of one parent are never divided."""
        if not self.hangs_from:
            return []
        messages: list[list[Node]] = []
        for parent, family in groupby(nodes, key=lambda node: node.parent):
            if parent not in self.sent:
                continue
            children = list(family)
            if not messages or len(messages[-1]) + len(children) > MAX_DRAFT:
                messages.append([])
            messages[-1] += children
            for child in children:
                self.sent[child.number] = self.next_number
                self.next_number += 1
        return [self._message(session, some, draft_us) for some in messages]

    def _message(self, session: str, nodes: Sequence[Node], draft_us: int) -> Nodes:
        return Nodes(
            session,
            self.hangs_from,
            self.sent[nodes[0].number],
            tuple(node.token for node in nodes),
            tuple(self.sent[node.parent] for node in nodes),
            bytes(max(1, to_byte(self._chance(node))) for node in nodes),
            draft_us,
        )

    def _chance(self, node: Node) -> float:
        """That a node is the target's if its parent is."""
        above = 1.0 if node.parent == self.tree.root else self.tree.survival(node.parent)
        return min(1.0, self.tree.survival(node.number) / above) if above else 0.0


class GrownTrees:
    """The trees of all sessions of a device."""

    def __init__(self) -> None:
        self._trees: dict[str, GrownTree] = {}

    def follow(self, order: Grow) -> list[Nodes]:
        """Follow a session's verdict. Returns nodes to send again."""
        return self._tree(order.session, order.ids, order.sampling).follow(order)

    def request(self, requested: RequestedDraft) -> None:
        """Make a draft; it replaces what was asked for the session before."""
        draft = requested.request
        self._tree(draft.session, tuple(draft.ids), draft.sampling).request(requested)

    def finished(self) -> list[tuple[RequestedDraft, DraftResult]]:
        """Drafts that are done, each once. A session whose draft has failed is dropped."""
        found = []
        for name, one in list(self._trees.items()):
            if one.requested is not None and (result := one.done()) is not None:
                found.append((one.requested, result))
                one.requested = None
                if result.error:
                    del self._trees[name]
        return found

    def _tree(self, session: str, ids: tuple[int, ...], sampling: SamplingParams) -> GrownTree:
        if session not in self._trees:
            self._trees[session] = GrownTree(ids, sampling, DraftTree(len(ids)))
        return self._trees[session]

    def stop(self, session: str) -> bool:
        """Drop a session's tree. Returns whether there was one."""
        return self._trees.pop(session, None) is not None

    def sessions(self) -> list[str]:
        """All sessions with a tree."""
        return list(self._trees)

    def requests(self) -> list[GrowRequest]:
        """What to expand next: for all drafts that are asked for, else the likeliest nodes of all sessions."""
        requested = [
            (name, one, one.requested) for name, one in self._trees.items() if one.requested is not None
        ]
        if requested:
            leaves_of = ((name, one, draft.leaf(one.tree)) for name, one, draft in requested)
            return [
                GrowRequest(name, one.ids, one.sampling, () if leaf is None else (leaf,))
                for name, one, leaf in leaves_of
            ]
        leaves = [
            (1.0 if node == ROOT else one.tree.survival(node), name, node)
            for name, one in self._trees.items()
            for node in one.leaves()
        ]
        leaves.sort(key=lambda leaf: -leaf[0])
        chosen: dict[str, list[int]] = {}
        for _, name, node in leaves[:EXPANDED]:
            chosen.setdefault(name, []).append(node)
        return [
            GrowRequest(name, self._trees[name].ids, self._trees[name].sampling, nodes)
            for name, nodes in chosen.items()
        ]

    def take(self, growths: Sequence[Growth]) -> list[Nodes]:
        """Take the answers to `requests`. Returns nodes to send."""
        return [
            message
            for growth in growths
            if (one := self._trees.get(growth.session)) and growth.base_len == len(one.ids)
            for message in one.take(growth)
        ]
