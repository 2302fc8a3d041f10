"""Bookkeeping of a KV cache that the draft trees of many sessions share. Pure: no model, no I/O.

A tree is several sequences of one cache: each expanded node has a cell, and a cell belongs to all sequences whose path
goes through it. A child continues the sequence that ends at its parent; where there is none, a sibling has it, and the
child gets a sequence of its own, to which the path is copied. So a session needs as many sequences as its tree has
expanded nodes without expanded children. In a unified cache such a copy marks cells and moves no data. (With a stream
per sequence llama.cpp copies all data, and whole sequences only.)

A session that leaves keeps its sequence while no other needs it: the next turn of a chat begins with the last one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from services.draft_worker.kv import (
    MIN_SHARED,
    PREFILL_ALONE,
    PREFILL_WITH_DRAFTS,
    SHORT,
    Change,
    Copy,
    Cut,
    common_prefix,
)
from shared.compute.draft_tree import DraftTree
from shared.compute.drafter import NoCapacity
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest
from shared.speculative.candidates import Candidate


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """sessions: at once. kv_tokens: cells of all together. nodes: expanded in one decode, of all together.

    sequences: of all together, >= sessions; llama.cpp has at most 256. Each takes a row of logits in memory (4 bytes a
    token of the vocabulary), and next to no time (docs/notes/draft-trees.md).
    """

    sessions: int = 8
    kv_tokens: int = 4096
    sequences: int = 64
    nodes: int = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """A session's tokens that are fed in a row, from position `start` of a sequence on.

    node: expanded from the last token's logits; None: committed tokens are fed only.
    """

    request: GrowRequest
    sequence: int
    start: int
    tokens: tuple[int, ...]
    node: int | None = None


@dataclass(slots=True)
class Track:
    """What the cache holds of a session.

    ids: committed tokens. held: how many of the first have a cell, all of them once the root is expanded. ends: for
    each sequence, the last node with a cell on it; ROOT: the last cell is a committed token's. fed: for each expanded
    node a sequence through it.
    """

    ids: list[int]
    held: int
    tree: DraftTree
    ends: dict[int, int]
    fed: dict[int, int] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        """Cells used by or reserved for the session. A beginning that is shared counts for each that shares it."""
        return len(self.ids) + len(self.fed)

    @property
    def missing(self) -> int:
        """Tokens to feed before the root."""
        return max(0, len(self.ids) - 1 - self.held)

    def trunk(self) -> int:
        """A sequence through the root: the one that ends there, if any does."""
        return next((s for s, end in self.ends.items() if end == ROOT), next(iter(self.ends)))

    def advance(self, ids: Sequence[int]) -> list[Change]:
        """Follow the committed tokens; returns the cache operations. Keeps the cells of all that is still valid."""
        same = common_prefix(self.ids, ids)
        tree, known = self.tree, len(self.ids)
        if same < known:  # other tokens than before: after a rollback
            return self.restart(ids, min(same, self.held))
        if len(ids) == known:
            return []
        path = [node for node in tree.follow(ids[known:]) if node in self.fed]
        last = self.fed[path[-1]] if path else self.trunk()
        held = known + len(path) if self.held == known else self.held
        root = tree.advance(ids[known:])
        if root not in self.fed:  # of the cells below the old root only those on the path are left, if any
            return self._cut(ids, held, last)
        self.ids, self.held = list(ids), len(ids)
        keep = {s: end for s, end in self.ends.items() if end == root or end in tree.nodes}
        changes: list[Change] = [Cut(sequence, 0) for sequence in self.ends if sequence not in keep]
        self.ends = {s: ROOT if end == root else end for s, end in keep.items()}
        self.fed = {node: sequence for node, sequence in self.fed.items() if node in tree.nodes}
        return changes

    def restart(self, ids: Sequence[int], held: int) -> list[Change]:
        """Drop the tree; the first `held` of these committed tokens keep their cells. Returns the cache operations."""
        self.tree.restart(len(ids))
        return self._cut(ids, min(held, len(ids) - 1), self.trunk())

    def _cut(self, ids: Sequence[int], held: int, sequence: int) -> list[Change]:
        """Keep the first cells of one sequence, and no other."""
        changes: list[Change] = [Cut(other, 0) for other in self.ends if other != sequence]
        self.ids, self.held = list(ids), min(held, len(ids) - 1)
        self.ends, self.fed = {sequence: ROOT}, {}
        return [*changes, Cut(sequence, self.held)]


@dataclass(slots=True)
class Level:
    """What one decode feeds, and the cache operations to do before, in this order. errors: by refused session."""

    changes: list[Change] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    expanded: dict[str, dict[int, int]] = field(
        default_factory=dict
    )  # by session: nodes, and a sequence of each

    @property
    def nodes(self) -> int:
        """Nodes that are expanded."""
        return sum(map(len, self.expanded.values()))


class TreeBook:
    """context: maximum positions of one session."""

    def __init__(self, limits: TreeLimits, context: int) -> None:
        self.tracks: dict[str, Track] = {}
        self.kept: list[tuple[int, list[int]]] = []  # sequence and tokens of sessions that left; oldest first
        self._limits, self._context = limits, min(context, limits.kv_tokens)
        self._free = list(range(limits.sequences - 1, -1, -1))

    @property
    def cells(self) -> int:
        """Cells used by or reserved for open sessions."""
        return sum(track.cells for track in self.tracks.values())

    def plan(self, requests: Sequence[GrowRequest]) -> Level:
        """The next decode. Opens sessions that are new. Call `take` or `undo` with each of its pieces afterwards."""
        level = Level()
        ready = [request for request in requests if self._follow(request, level)]
        for request in ready:
            if self.tracks[request.session].missing <= SHORT:
                self._feed(request, SHORT, level)
        for rank in range(max((len(request.nodes) for request in ready), default=0)):
            for request in ready:  # in turns, so that a bound meets all alike
                if rank < len(request.nodes):
                    self._expand(request, request.nodes[rank], level)
        budget = PREFILL_WITH_DRAFTS if level.pieces else PREFILL_ALONE
        for request in ready:
            if self.tracks[request.session].missing > SHORT:
                budget -= self._feed(request, budget, level)
        return level

    def take(self, piece: Piece, candidates: tuple[Candidate, ...] = ()) -> Expansion | None:
        """Record a piece that was decoded. candidates: of its node."""
        track = self.tracks[piece.request.session]
        if piece.node is None:
            track.held += len(piece.tokens)
            return None
        tree = track.tree
        expansion = Expansion(piece.node, tree.next_number, candidates)
        key = tree.key(piece.node)
        tree.add(expansion)
        if key == tree.root:
            track.held = len(track.ids)
        else:
            track.fed[key] = piece.sequence
            track.ends[piece.sequence] = key
        return expansion

    def undo(self, piece: Piece) -> list[Change]:
        """Take a piece back that was not decoded; returns the cache operations."""
        track = self.tracks[piece.request.session]
        if piece.sequence in track.ends:
            return [Cut(piece.sequence, piece.start)]
        self._free.append(piece.sequence)
        return [Cut(piece.sequence, 0)]

    def advance(self, session: str, ids: Sequence[int]) -> list[Change]:
        """Follow a session's committed tokens; returns the cache operations."""
        track = self.tracks[session]
        before = set(track.ends)
        changes = track.advance(ids)
        self._free += before - track.ends.keys()
        return changes

    def close(self, session: str, keep: bool = True) -> list[Change]:
        """Close a session; returns the cache operations. keep: its committed tokens may stay for reuse."""
        track = self.tracks.pop(session, None)
        if track is None:
            return []
        trunk = track.trunk()
        held = track.held if keep else 0
        self._free += [sequence for sequence in track.ends if sequence != trunk]
        changes: list[Change] = [Cut(sequence, 0) for sequence in track.ends if sequence != trunk]
        if held:
            self.kept.append((trunk, track.ids[:held]))
        else:
            self._free.append(trunk)
        changes.append(Cut(trunk, held))
        while len(self.kept) > self._limits.sessions // 2:
            changes += self._drop_oldest()
        return changes

    def _follow(self, request: GrowRequest, level: Level) -> bool:
        """Bring a session to the request's ids. False, and an error, when they do not fit: the session is closed."""
        session = request.session
        try:
            self._admit(request)
            if session in self.tracks:
                level.changes += self.advance(session, request.ids)
                if self.cells > self._limits.kv_tokens:  # committed tokens come before candidates
                    level.changes += self._drop_tree(session)
            else:
                level.changes += self._open(request)
            level.changes += self._make_room(self.cells)
        except NoCapacity as error:
            level.changes += self.close(session, keep=False)
            level.errors[session] = str(error)
        return session not in level.errors

    def _admit(self, request: GrowRequest) -> None:
        """Raises NoCapacity when a request's ids do not fit."""
        need, cells = len(request.ids), self._limits.kv_tokens
        own = self.tracks.get(request.session)
        others = self.cells - (own.cells if own else 0)
        if need > self._context:
            raise NoCapacity(f"{need} tokens; a session may have {self._context}")
        if others + need > cells:
            raise NoCapacity(f"{need} KV tokens wanted, {max(cells - others, 0)} of {cells} are free")
        if own is None and len(self.tracks) >= self._limits.sessions:
            raise NoCapacity(f"{len(self.tracks)} sessions are open")

    def _open(self, request: GrowRequest) -> list[Change]:
        """Open a session: take over what a session left, or copy the longest common beginning, or start empty."""
        ids, changes = request.ids, list[Change]()
        length, source = self._longest(ids)
        left = next((one for one in self.kept if one[0] == source), None)
        if left is not None and 2 * length >= len(left[1]):  # most likely the same conversation
            self.kept.remove(left)
            sequence = source
        else:
            sequence = self._take_sequence(changes)
            length, source = self._longest(ids)  # what was left may be gone
            if length:
                changes.append(Copy(source, sequence, length))
        held = min(length, len(ids) - 1)
        changes.append(Cut(sequence, held))
        self.tracks[request.session] = Track(list(ids), held, DraftTree(len(ids)), {sequence: ROOT})
        return changes

    def _longest(self, ids: Sequence[int]) -> tuple[int, int]:
        """The longest beginning of ids that the cache holds, and its sequence; 0 when it is not worth sharing."""
        beginnings = [(common_prefix(tokens, ids), sequence) for sequence, tokens in self.kept]
        beginnings += [
            (min(common_prefix(track.ids, ids), track.held), track.trunk()) for track in self.tracks.values()
        ]
        length, sequence = max(beginnings, key=lambda pair: pair[0], default=(0, 0))
        return (length, sequence) if length >= MIN_SHARED else (0, -1)

    def _feed(self, request: GrowRequest, budget: int, level: Level) -> int:
        """Feed committed tokens before the root, at most `budget`. Returns how many."""
        track = self.tracks[request.session]
        start = track.held
        tokens = tuple(track.ids[start : min(start + max(budget, 0), len(track.ids) - 1)])
        if tokens:
            level.pieces.append(Piece(request, track.trunk(), start, tokens))
        return len(tokens)

    def _expand(self, request: GrowRequest, node: int, level: Level) -> None:
        """Feed a node's token, if it can be expanded and there is room for it."""
        track = self.tracks[request.session]
        tree, key = track.tree, track.tree.key(node)
        expanded = level.expanded.setdefault(request.session, {})
        if track.missing > SHORT or key in expanded or level.nodes >= self._limits.nodes:
            return
        if (
            not tree.is_open(node, request.width * (len(expanded) + 1))
            or tree.position(node) >= self._context
        ):
            return
        is_root = key == tree.root
        if is_root:
            sequence, token = track.trunk(), track.ids[-1]
        elif self._has_cell(level):
            found = self._sequence(track, key, expanded.values(), level)
            if found is None:
                return
            sequence, token = found, tree.nodes[key].token
        else:
            return
        expanded[key] = sequence
        level.pieces.append(Piece(request, sequence, tree.position(key), (token,), ROOT if is_root else key))

    def _has_cell(self, level: Level) -> bool:
        """Whether there is a cell for one more node. One for each session's next committed token is left free."""
        used = self.cells + level.nodes
        if used + len(self.tracks) >= self._limits.kv_tokens:
            return False
        level.changes += self._make_room(used + 1)
        return True

    def _sequence(self, track: Track, node: int, taken: Collection[int], level: Level) -> int | None:
        """The sequence for a node: the one that ends at its parent, or a new one; None when there is no other."""
        parent = track.tree.nodes[node].parent
        end = ROOT if parent == track.tree.root else parent
        ending = next((s for s, last in track.ends.items() if last == end and s not in taken), None)
        if ending is not None:
            return ending
        used = len({*track.ends, *taken})
        spare = len(self._free) + len(self.kept) - (self._limits.sessions - len(self.tracks))
        if used >= self._limits.sequences // len(self.tracks) or spare <= 0:
            return None
        sequence = self._take_sequence(level.changes)
        source = track.trunk() if end == ROOT else track.fed[parent]
        level.changes.append(Copy(source, sequence, track.tree.position(node)))
        return sequence

    def _take_sequence(self, changes: list[Change]) -> int:
        """An empty sequence; the oldest that was left makes room for it."""
        if not self._free:
            changes += self._drop_oldest()
        return self._free.pop()

    def _make_room(self, cells: int) -> list[Change]:
        """Drop what sessions left until it and so many cells fit."""
        changes: list[Change] = []
        while self.kept and cells + sum(len(tokens) for _, tokens in self.kept) > self._limits.kv_tokens:
            changes += self._drop_oldest()
        return changes

    def _drop_tree(self, session: str) -> list[Change]:
        """Drop a session's tree with its cells."""
        track = self.tracks[session]
        before = set(track.ends)
        changes = track.restart(track.ids, track.held)
        self._free += before - track.ends.keys()
        return changes

    def _drop_oldest(self) -> list[Change]:
        sequence, _ = self.kept.pop(0)
        self._free.append(sequence)
        return [Cut(sequence, 0)]
