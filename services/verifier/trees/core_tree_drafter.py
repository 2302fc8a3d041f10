"""A small model in the verifier's process as a drafter of trees: a second target, whose logits become candidates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from services.verifier.packing import choice_positions
from services.verifier.torch_target import TorchTarget
from services.verifier.trees.tree_slots import TreeSlots
from shared.compute.draft_tree import DraftTree
from shared.compute.target import TargetRow
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest, Growth, check
from shared.speculative.candidates import ranked

CAPACITY: Final = 64  # sessions
CHUNK: Final = 512  # committed tokens of one session that are fed at once


@dataclass(slots=True)
class _Track:
    """A session. ids: committed. slots: expanded nodes, behind the committed tokens in the cache."""

    ids: tuple[int, ...]
    tree: DraftTree
    slots: TreeSlots = field(default_factory=TreeSlots)


@dataclass(frozen=True, slots=True)
class _Fed:
    """A request's row. nodes: expanded from its logits, in the order of these; () = committed tokens alone."""

    request: GrowRequest
    row: TargetRow
    nodes: tuple[int, ...]


class CoreTreeDrafter:
    """See TreeDrafter. The model's cache is its own pool; a session without room there gets no drafts."""

    def __init__(self, model: TorchTarget) -> None:
        self._model = model
        self.vocabulary = model.vocabulary
        self.vocab = model.vocab
        self.capacity = CAPACITY
        self._tracks: dict[str, _Track] = {}

    def grow(self, requests: Sequence[GrowRequest]) -> list[Growth]:
        """Answer requests of different sessions by one pass. Raises ValueError for one that makes no sense."""
        check(requests)
        fed: dict[str, _Fed] = {}
        errors: dict[str, str] = {}
        for request in requests:
            self.advance(request.session, request.ids)
            one = self._row(request, [other.session for other in requests])
            if one is None:
                errors[request.session] = "no KV pages for a draft"
                self.forget(request.session)
            elif one.row.tokens:
                fed[request.session] = one
        expansions = self._run(list(fed.values()))
        return [
            Growth(
                session=request.session,
                base_len=len(request.ids),
                expansions=tuple(expansions.get(request.session, ())),
                missing=max(0, len(request.ids) - 1 - self._model.cached(request.session)),
                draft_us=0,
                error=errors.get(request.session, ""),
            )
            for request in requests
        ]

    def cost_s(self, requests: Sequence[GrowRequest]) -> float:
        """0.0: the cost of a real model is its computing time."""
        return 0.0

    def advance(self, session: str, ids: Sequence[int]) -> int:
        """Follow the committed tokens. Returns the number of the node that is now the root, else ROOT."""
        track = self._tracks.get(session)
        if track is None:
            return ROOT
        known, cached = len(track.ids), self._model.cached(session)
        if tuple(ids[:known]) != track.ids:  # after a rollback
            same = next((i for i, (a, b) in enumerate(zip(ids, track.ids, strict=False)) if a != b), len(ids))
            self.forget(session) if same < cached else track.tree.restart(len(ids))
            track.ids, track.slots = tuple(ids), TreeSlots()
            return ROOT
        if len(ids) > known:
            path = track.tree.follow(ids[known:])
            root = track.tree.advance(ids[known:])
            kept = track.slots.decide(path, track.tree)
            track.ids = tuple(ids)
            if cached:
                self._model.keep(session, cached, kept.path, kept.open)
        else:
            root = track.tree.root
        return root

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._tracks.pop(session, None)
        self._model.forget(session)

    def set_threads(self, threads: int) -> None:
        """The target's threads are this model's as well."""

    def close(self) -> None:
        """Forget all sessions."""
        for session in list(self._tracks):
            self.forget(session)

    def _row(self, request: GrowRequest, protect: Sequence[str]) -> _Fed | None:
        """What to feed for a request: committed tokens that are missing, else nodes. None without room."""
        name, ids = request.session, tuple(request.ids)
        if name not in self._tracks:
            if len(self._tracks) >= self.capacity:
                return None
            self._tracks[name] = _Track(ids, DraftTree(len(ids)))
        track = self._tracks[name]
        tree, slots = track.tree, track.slots
        nodes = tuple(
            dict.fromkeys(tree.key(node) for node in request.nodes if tree.is_open(node, request.width))
        )
        feeds_root = self._model.cached(name) < len(ids)
        cells = len(ids) + len(slots.nodes) + (0 if feeds_root else len(nodes))
        if not self._model.admit(name, ids, protect, cells):
            return None
        start = self._model.cached(name)
        if start < len(ids):
            whole = ids[start : start + CHUNK]
            last = start + len(whole) == len(ids)
            chooses = last and ROOT in request.nodes
            row = TargetRow(name, start, whole, len(whole), chooses, request.sampling)
            return _Fed(request, row, (tree.root,) if chooses else ())
        opened, parents = slots.piece(tree, nodes)
        tokens = tuple(tree.nodes[node].token for node in nodes)
        row = TargetRow(name, start, tokens, 0, True, request.sampling, parents=parents, open=opened)
        return _Fed(request, row, nodes)

    def _run(self, fed: Sequence[_Fed]) -> dict[str, list[Expansion]]:
        """One pass over the rows. The expansions by session, added to our trees."""
        found: dict[str, list[Expansion]] = {}
        for one, logits in zip(fed, self._model.logits([one.row for one in fed]), strict=True):
            request, tree = one.request, self._tracks[one.request.session].tree
            positions = choice_positions(one.row) if one.nodes else ()
            for node, values, position in zip(one.nodes, logits, positions, strict=True):
                candidates = ranked(values, request.sampling, position, request.width)
                at_root = node == tree.root
                expansion = Expansion(ROOT if at_root else node, tree.next_number, candidates)
                tree.add(expansion)
                found.setdefault(request.session, []).append(expansion)
        return found
