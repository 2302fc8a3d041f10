"""One session whose draft tree is verified in pieces and decided step by step. Pure.

Nodes are fed to the target in pieces, several of which may be under way. Each result tells the target's own token after
some nodes. Whenever the token after the root is known, it is committed: if a child of the root has it, in whatever
piece, the child is the new root, and all that does not follow it dies; otherwise the tree dies, and the token is the
root of a new one, which has to be fed itself. So the text is the target's, see `shared/speculative/rule.py`.

Source: FlowSpec (arXiv 2507.02620), step-wise verification.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final

from services.verifier.core import VerifiedSession, cut
from services.verifier.trees.tree_slots import Kept, TreeSlots
from shared.compute.draft_tree import DraftTree
from shared.compute.target import Choices, TargetRow, TokenLogprobs
from shared.compute.tree_drafter import ROOT
from shared.protocol.messages import Finish, Grown, TreeSource
from shared.speculative.survival import FULL

GONE: Final = -2  # number of no node
PRIOR: Final = 4.0  # promises that a new session counts as kept
FADE: Final = 0.98  # of a promise, with every further one


@dataclass(frozen=True, slots=True)
class SentPiece:
    """A row that was made of a session's tree. nodes: whose choices it gives, the root among them, in their order."""

    row: TargetRow
    nodes: tuple[int, ...]

    @property
    def drafts(self) -> tuple[int, ...]:
        """Its nodes without the root."""
        return self.nodes[self.row.committed :]


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens that are decided, from position base_len on, and what stays in the target's cache.

    accepted: of them, those that were fed as drafts; drafted: nodes that were fed and are decided now, one way or the
    other. length: tokens committed and cached before the step; `kept` says what stays behind them.
    """

    base_len: int
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
    finish: Finish
    accepted: int
    drafted: int
    length: int
    kept: Kept


@dataclass(slots=True)
class TreeSession:
    """session: as of the last confirmed commit. ids: prompt and all tokens decided, committed or on the way.

    A device that grows the tree numbers its nodes from 0 on. hangs_from: committed length where that tree hangs.
    offset: our number of its node 0. received: its nodes so far. torn: some were lost on the way, so that later ones
    cannot be placed; all goes on with those that are here, until the next tree begins. promised, right: how many of the
    decided tokens the drafter said it had, and how many it had, both fading.
    """

    session: VerifiedSession
    tree: DraftTree
    ids: list[int]
    source: TreeSource
    hangs_from: int
    offset: int = 0
    received: int = 0
    torn: bool = False
    promised: float = PRIOR
    right: float = PRIOR
    slots: TreeSlots = field(default_factory=TreeSlots)
    root_fed: bool = False
    stalled: bool = False  # the drafter has nothing more below this root
    _choices: dict[int, tuple[int, TokenLogprobs | None]] = field(default_factory=dict)  # by node

    @staticmethod
    def begin(session: VerifiedSession, source: TreeSource) -> "TreeSession":
        """A tree that hangs from the session's last committed token, which is not fed yet. source: who grows it."""
        return TreeSession(session, DraftTree(session.length), list(session.ids), source, session.length)

    @property
    def name(self) -> str:
        """The session's id."""
        return self.session.spec.session

    @property
    def fed_length(self) -> int:
        """Committed tokens that are fed: all but a root that is not."""
        return len(self.ids) - (not self.root_fed)

    @property
    def remaining(self) -> int:
        """Tokens that the session may still emit."""
        return len(self.session.spec.prompt) + self.session.spec.max_tokens - len(self.ids)

    def graft(self, grown: Grown) -> bool:
        """Add nodes that the device has found, well-formed ones (`grown_error`). Returns whether any were new.

        Nodes of an earlier tree and known ones are passed over. After a gap none are taken before the next tree begins.
        """
        known = self.received - grown.first_node
        if (
            grown.tree != self.hangs_from
            or self.source != "device"
            or self.torn
            or known >= len(grown.tokens)
        ):
            return False
        if known < 0:
            self.torn = True
            return False
        self.received += len(grown.tokens) - known
        chances = [log(max(byte, 0.5) / FULL) for byte in grown.survival]
        parents = [self._number(parent) for parent in grown.parents]
        first = self.offset + grown.first_node + known
        self.tree.graft(first, grown.tokens[known:], parents[known:], chances[known:])
        return True

    def _number(self, parent: int) -> int:
        """Our number of a node of the device's tree."""
        if parent >= 0:
            return self.offset + parent
        return ROOT if self.tree.root == ROOT else GONE

    def chance(self, node: int) -> float:
        """The probability that a node is the target's, if it is as its drafter says, but for promises that were broken.

        So a device that claims to be sure gets no larger part of the pieces than its nodes deserve.
        """
        trust = min(1.0, self.right / self.promised)
        return self.tree.survival(node) * trust ** self.tree.depth(node)

    def unsent(self) -> list[int]:
        """Nodes that are not fed, the likeliest first, the older of equals: a parent comes before its children.

        Those so deep that the text ends before them are left out.
        """
        fed = set(self.slots.nodes)
        found = [
            node for node in self.tree.nodes.values() if node.number not in fed and self._useful(node.number)
        ]
        found.sort(key=lambda node: (-node.score, node.number))
        return [node.number for node in found]

    def leaves(self, limit: int, min_survival: float) -> list[int]:
        """Nodes to expand next, the likeliest first; ROOT for the root. min_survival: of a node."""
        if self.stalled or self.source != "core":
            return []
        found = [ROOT] if not self.tree.expanded(ROOT) and self._useful(ROOT) else []
        if not found:
            found = [
                node
                for node in self.tree.frontier(limit)
                if self.tree.survival(node) >= min_survival and self._useful(node)
            ]
        return found

    def _useful(self, node: int) -> bool:
        return self.tree.depth(node) < self.remaining

    def piece(self, nodes: Sequence[int]) -> SentPiece:
        """The row of a further piece: the root, unless it is fed, and these nodes, each after its parent."""
        start, root = self.fed_length, () if self.root_fed else (self.ids[-1],)
        opened, parents = self.slots.piece(self.tree, nodes)
        tokens = (*root, *(self.tree.nodes[node].token for node in nodes))
        spec = self.session.spec
        row = TargetRow(
            session=self.name,
            start=start,
            tokens=tokens,
            committed=len(root),
            choose=True,
            sampling=spec.sampling,
            logprobs=spec.logprobs,
            parents=parents,
            open=opened,
        )
        self.root_fed = True
        return SentPiece(row, (*((self.tree.root,) if root else ()), *nodes))

    def awaits(self, sent: SentPiece) -> bool:
        """Whether any node of a piece under way is alive."""
        return any(node == self.tree.root or node in self.tree.nodes for node in sent.nodes)

    def take(self, sent: SentPiece, choices: Choices) -> Step | None:
        """A piece's result: the tokens that it decides; None when there are none."""
        logprobs = choices.logprobs or (None,) * len(choices.tokens)
        for node, token, logprob in zip(sent.nodes, choices.tokens, logprobs, strict=True):
            if node == self.tree.root or node in self.tree.nodes:
                self._choices[node] = (token, logprob)
        return self._decide()

    def _decide(self) -> Step | None:
        """Move the root as far as choices are known."""
        tokens: list[int] = []
        logprobs: list[TokenLogprobs] = []
        path: list[int] = []
        base, length, followed = len(self.ids), self.fed_length, self.tree.root
        while self.root_fed and (chosen := self._choices.pop(self.tree.root, None)):
            token, logprob = chosen
            tokens.append(token)
            if logprob is not None:
                logprobs.append(logprob)
            promised = sum(self.tree.survival(child.number) for child in self.tree.children(ROOT))
            followed = self.tree.advance((token,))
            if promised:
                self.promised = FADE * self.promised + min(1.0, promised)
                self.right = FADE * self.right + (followed != ROOT)
            if followed == ROOT or followed not in self.slots.nodes:
                self.root_fed = False  # a token that was not drafted, or a node that was not sent
                if followed == ROOT:
                    break
            else:
                path.append(followed)
        if not tokens:
            return None
        useful, finish = cut(tokens, self._as_of_now())
        self.ids += useful
        if followed == ROOT:
            self._hang()
        before = len(self.slots.nodes)
        kept = self.slots.decide(path, self.tree)
        self.stalled = False
        self._choices = {
            node: chosen
            for node, chosen in self._choices.items()
            if node == self.tree.root or node in self.tree.nodes
        }
        return Step(
            base_len=base,
            tokens=useful,
            logprobs=tuple(logprobs[: len(useful)]),
            finish=finish,
            accepted=min(len(path), len(useful)),
            drafted=before - len(kept.open),
            length=length,
            kept=kept,
        )

    def _hang(self) -> None:
        """The device's next tree begins, below the newest token."""
        self.hangs_from, self.offset = len(self.ids), self.tree.next_number
        self.received, self.torn = 0, False

    def _as_of_now(self) -> VerifiedSession:
        """The session with all tokens decided, for its limits."""
        one = self.session
        return VerifiedSession(one.spec, one.epoch, self.ids, one.finish, one.joined)
