"""Page pool of the modelled target: allocation, shared prefixes and eviction."""

from collections import Counter
from collections.abc import Callable, Sequence


class ModelledPool:
    """A page pool with the rules of the verifier's own.

    A session may evict only sessions that entered after it, the youngest first. So the oldest always makes progress,
    and no two sessions evict each other in turn. A session keeps its place in that order until `forget`.
    """

    def __init__(self, pages: int, page_tokens: int, sharing: bool) -> None:
        self.pages = pages
        self.page_tokens = page_tokens
        self._sharing = sharing
        self._freed: list[int] = []  # pages that were held before
        self._fresh = (
            0  # pages from here on never were: a list of them would be most of a simulation's memory
        )
        self._held: dict[str, list[int]] = {}
        self._refs: Counter[int] = Counter()
        self._order: dict[str, int] = {}
        self._entered = 0
        self._content: dict[int, tuple[int, ...]] = {}  # shareable page -> the whole prefix that ends with it
        self._index: dict[tuple[int, ...], int] = {}

    @property
    def used(self) -> int:
        """Pages held by any session."""
        return self._fresh - len(self._freed)

    def holds(self, session: str) -> bool:
        """Whether the session has pages."""
        return session in self._held

    def room(self, session: str) -> int:
        """Tokens that the session's pages can hold."""
        return len(self._held.get(session, ())) * self.page_tokens

    def share(self, session: str, prompt: Sequence[int]) -> tuple[int, ...]:
        """Share full pages of other sessions with this prompt's prefix. Returns the tokens in them.

        The prompt's last token is never shared, since the first choice needs its forward pass.
        """
        self._enter(session)
        prefix: tuple[int, ...] = ()
        while self._sharing and len(prefix) + self.page_tokens < len(prompt):
            longer = tuple(prompt[: len(prefix) + self.page_tokens])
            if longer not in self._index:
                break
            page = self._index[longer]
            self._held.setdefault(session, []).append(page)
            self._refs[page] += 1
            prefix = self._content[page]
        return prefix

    def offer(self, session: str, prefix: Sequence[int]) -> None:
        """Let other sessions share the full pages of `prefix`, which this session has fed."""
        for i in range(len(prefix) // self.page_tokens if self._sharing else 0):
            page = self._held[session][i]
            if page in self._content:
                continue
            tokens = tuple(prefix[: (i + 1) * self.page_tokens])
            if tokens not in self._index:
                self._index[tokens] = page
                self._content[page] = tokens

    def reserve(
        self, session: str, length: int, protect: Sequence[str], evicted: Callable[[str], object]
    ) -> bool:
        """Allocate pages for `length` tokens, evicting sessions if needed. Returns False, without evictions, if it
        fails.

        protect: sessions that are not evicted. evicted: called with each evicted session.
        """
        self._enter(session)
        needed = -(-length // self.page_tokens) - len(self._held.get(session, ()))
        missing = needed - (self.pages - self.used)
        victims = self._victims(session, missing, protect) if missing > 0 else []
        if victims is None:
            return False
        for victim in victims:
            self.release(victim)
            evicted(victim)
        held = self._held.setdefault(session, [])
        for _ in range(needed):
            page = self._freed.pop() if self._freed else self._fresh
            self._fresh += page == self._fresh
            self._refs[page] = 1
            held.append(page)
        return True

    def shrink(self, session: str, length: int) -> None:
        """Free the pages beyond `length` tokens."""
        held = self._held.get(session, [])
        while len(held) > -(-length // self.page_tokens):
            self._drop(held.pop())

    def release(self, session: str) -> None:
        """Free all pages of a session, which keeps its place in the order."""
        for page in self._held.pop(session, ()):
            self._drop(page)

    def forget(self, session: str) -> None:
        """Free all pages of a session, and its place in the order."""
        self.release(session)
        self._order.pop(session, None)

    def _enter(self, session: str) -> None:
        if session not in self._order:
            self._entered += 1
            self._order[session] = self._entered

    def _victims(self, session: str, missing: int, protect: Sequence[str]) -> list[str] | None:
        younger = [s for s in self._held if self._order[s] > self._order[session] and s not in protect]
        younger.sort(key=self._order.__getitem__)
        victims: list[str] = []
        refs = self._refs.copy()
        while missing > 0:
            if not younger:
                return None
            victims.append(younger.pop())
            for page in self._held[victims[-1]]:
                refs[page] -= 1
                missing -= refs[page] == 0
        return victims

    def _drop(self, page: int) -> None:
        self._refs[page] -= 1
        if self._refs[page] == 0:
            del self._refs[page]
            self._freed.append(page)
            if page in self._content:
                del self._index[self._content.pop(page)]
