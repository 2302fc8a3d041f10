"""A tree drafter with a modelled cost, whose candidates are the modelled target's token with set probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from math import log

from shared.compute.draft_tree import DraftTree
from shared.compute.modelled import Chain, choose, extend, modelled_vocabulary, right_rank
from shared.compute.modelled_drafter import CHUNK, FEED_SHARE
from shared.compute.tree_drafter import ROOT, Expansion, GrowRequest, Growth, check, check_ids
from shared.speculative.candidates import Candidate

# SmolLM2 at temperature 0.7 (docs/notes/draft-trees.md): that the first, second and third candidate is the target's
# token, and the cost of each further node of a level, relative to the first.
CHANCES = (0.79, 0.13, 0.04)
NODE_SHARE = 0.43
NODES = 32  # maximum nodes of a decode


@dataclass(slots=True)
class _Session:
    """The tokens in its cache, its tree, and the state of the text after each node."""

    chain: Chain
    tree: DraftTree
    states: dict[int, int] = field(default_factory=dict)


class ModelledTreeDrafter:
    """TreeDrafter whose candidate of rank r is the target's own token with probability chances[r], else a wrong one.

    It says just these probabilities. A node has at most len(chances) children, all tokens different.

    One decode takes draft_ms · (1 + node_share · further nodes + feed_share · committed tokens fed before the roots).
    """

    def __init__(
        self,
        chances: Sequence[float] | Callable[[int], Sequence[float]] = CHANCES,
        *,
        draft_ms: float = 8.0,
        node_share: float = NODE_SHARE,
        feed_share: float = FEED_SHARE,
        vocab: int = 49152,
        capacity: int = 8,
        kv_tokens: int = 1 << 20,
        stop_every: int = 0,
    ) -> None:
        """chances: each above 0, together at most 1; those of every state of the text, or a function of it."""
        self.vocabulary = modelled_vocabulary(vocab)
        self.vocab = vocab
        self.capacity = capacity
        self.threads = 1
        self._chances = chances
        self._draft_s, self._node_share, self._feed_share = draft_ms / 1e3, node_share, feed_share
        self._kv_tokens = kv_tokens
        self._stop_every = stop_every
        self._sessions: dict[str, _Session] = {}

    def grow(self, requests: Sequence[GrowRequest]) -> list[Growth]:
        """Answer requests of different sessions. Raises ValueError for one that makes no sense."""
        check(requests)
        spent_us = round(self.cost_s(requests) * 1e6)
        room = NODES
        growths = []
        for request in requests:
            growth = self._grow(request, room, spent_us)
            room -= len(growth.expansions)
            growths.append(growth)
        return growths

    def cost_s(self, requests: Sequence[GrowRequest]) -> float:
        """Modelled seconds of `grow`. Nodes that would be passed over are counted."""
        nodes = fed = 0
        for request in requests:
            missing = self._missing(request)
            fed += min(missing, CHUNK)
            nodes += len(request.nodes) if missing <= CHUNK else 0
        if not nodes and not fed:
            return 0.0
        return self._draft_s * (1 + self._node_share * max(min(nodes, NODES) - 1, 0) + self._feed_share * fed)

    def advance(self, session: str, ids: Sequence[int]) -> int:
        """Follow the committed tokens. Returns the number of the node that is now the root, else ROOT."""
        check_ids(session, ids)
        known = self._sessions.get(session)
        if known is None:
            return ROOT
        chain, tree = known.chain, known.tree
        same = chain.common(ids)
        if same < len(chain.tokens) or len(ids) < tree.base_len:  # after a rollback
            tree.restart(len(ids))
        else:
            cached = [node for node in tree.follow(ids[tree.base_len :]) if tree.expanded(node)]
            chain.feed(tree.nodes[node].token for node in cached)
            tree.advance(ids[tree.base_len :])
        chain.cut(len(ids) if tree.expanded(ROOT) else min(chain.common(ids), len(ids) - 1))
        known.states = {node: known.states[node] for node in tree.nodes}
        return tree.root

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        self._sessions.pop(session, None)

    def set_threads(self, threads: int) -> None:
        """Record the thread count; the modelled cost does not depend on it."""
        self.threads = threads

    def close(self) -> None:
        """Forget all sessions."""
        self._sessions.clear()

    def sessions(self) -> frozenset[str]:
        """Sessions with anything cached."""
        return frozenset(self._sessions)

    def _grow(self, request: GrowRequest, room: int, spent_us: int) -> Growth:
        error = self._open(request)
        if error:
            self.forget(request.session)
            return Growth(request.session, len(request.ids), (), 0, spent_us, error)
        self.advance(request.session, request.ids)
        session = self._sessions[request.session]
        cached = len(session.chain.tokens)
        session.chain.feed(request.ids[cached : min(cached + CHUNK, len(request.ids) - 1)])
        missing = max(0, len(request.ids) - 1 - len(session.chain.tokens))
        nodes = () if missing else request.nodes
        openings = (node for node in nodes if session.tree.is_open(node, request.width))
        expansions = tuple(islice((self._expand(request, session, node) for node in openings), room))
        return Growth(request.session, len(request.ids), expansions, missing, spent_us)

    def _open(self, request: GrowRequest) -> str:
        """Open a session that is new. Returns why there is no room, "" = there is."""
        known = request.session in self._sessions
        if not known and len(self._sessions) >= self.capacity:
            return f"{self.capacity} sessions are open"
        others = sum(self._cells(one) for name, one in self._sessions.items() if name != request.session)
        if others + len(request.ids) > self._kv_tokens:
            return f"{self._kv_tokens} KV tokens do not hold {len(request.ids)} more"
        if not known:
            self._sessions[request.session] = _Session(Chain(), DraftTree(len(request.ids)))
        return ""

    def _cells(self, session: _Session) -> int:
        """Cells of a session: its committed tokens and its expanded nodes."""
        tree = session.tree
        return tree.base_len + sum(tree.expanded(node) for node in tree.nodes)

    def _missing(self, request: GrowRequest) -> int:
        """Committed tokens before the last that would be fed, were there no bound. Nearly what `_grow` finds."""
        session = self._sessions.get(request.session)
        if session is None:
            return len(request.ids) - 1
        same = session.chain.common(request.ids)
        path = (
            session.tree.follow(request.ids[session.tree.base_len :])
            if same == len(session.chain.tokens)
            else []
        )
        return max(0, len(request.ids) - 1 - same - sum(session.tree.expanded(node) for node in path))

    def _expand(self, request: GrowRequest, session: _Session, node: int) -> Expansion:
        tree, key = session.tree, session.tree.key(node)
        if key == tree.root:
            session.chain.feed(request.ids[-1:])
        state = session.chain.states[-1] if key == tree.root else session.states[key]
        candidates = self._candidates(request, state, tree.position(node) + 1)
        expansion = Expansion(ROOT if key == tree.root else key, tree.next_number, candidates)
        tree.add(expansion)
        for child in tree.children(node):
            session.states[child.number] = extend(state, child.token)
        return expansion

    def _candidates(self, request: GrowRequest, state: int, position: int) -> tuple[Candidate, ...]:
        right = choose(state, request.sampling, self._stop_every)
        known = self._chances(state) if callable(self._chances) else self._chances
        rank = right_rank(request.sampling.seed, position, known)
        wrong = ((right + n) % request.sampling.vocab for n in count(1))
        chances = known[: min(request.width, request.sampling.vocab - 1)]
        return tuple(
            Candidate(right if one == rank else next(wrong), log(chance))
            for one, chance in enumerate(chances)
        )
