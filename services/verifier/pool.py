"""Page pool of the KV cache: allocation, prefix sharing and eviction. Pure; the numbers are page ids.

A page holds `page_tokens` positions. A session's *table* lists its pages in order. A full page of a prompt
may be shared: once its KV is computed it is *published* under the hash of the whole prefix that ends with it,
and sessions whose prompt begins alike take it instead of computing it. A published page is never written
again. When its last holder leaves it stays *warm*: free, but still found by its hash until it is needed.

    pages = held (by one session or several) + blank + warm
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

COPIED_PAGES: Final = 8  # shared prefixes up to this are copied where sessions are kept in runs


@dataclass(slots=True)
class _Table:
    """One session's pages."""

    order: int  # order of joining, kept until the session is forgotten
    pages: list[int] = field(default_factory=list)
    length: int = 0  # committed positions that are cached
    prefixes: list[bytes] = field(default_factory=list)  # hash of each full prompt page's prefix
    published: int = 0  # leading pages that are published, by this session or by who shared them
    admission: int = 0  # number of the admission that gave it its first page; 0 without pages


class PagePool:
    """Allocates pages to sessions.

    A session may evict only sessions that joined after it, the youngest first. So the oldest always makes
    progress, and no two sessions evict each other in turn.

    contiguous: keep each session's pages in one run where possible, and the runs at equal distances (a CPU reads
    those without copying, several in one call). A short shared prefix, a chat template say, is copied to its new
    holder's run then: admit() leaves the pairs of pages in `copies`, for the caller to carry out before anything
    else, all sources read before a target is written.
    """

    def __init__(
        self, pages: int, page_tokens: int, *, sharing: bool = True, contiguous: bool = False
    ) -> None:
        if pages < 1 or page_tokens < 1:
            raise ValueError(f"a pool of {pages} pages of {page_tokens} tokens")
        self.pages = pages
        self.page_tokens = page_tokens
        self._sharing = sharing
        self._contiguous = contiguous
        self._tables: dict[str, _Table] = {}
        self._joined = 0
        self._admitted = 0
        self._refs: Counter[int] = Counter()  # of held pages
        self._blank: dict[int, None] = dict.fromkeys(range(pages))  # last in, first out
        self._warm: dict[int, None] = {}  # first in, first out
        self._hash_of: dict[int, bytes] = {}  # of published pages, held or warm
        self._page_of: dict[bytes, int] = {}
        self.copies: list[tuple[int, int]] = []  # (source, target)

    @property
    def used(self) -> int:
        """Pages held by any session."""
        return len(self._refs)

    def table(self, session: str) -> list[int]:
        """The session's pages, in order; read-only. Raises KeyError for an unknown session."""
        return self._tables[session].pages

    def length(self, session: str) -> int:
        """Committed positions that are cached; 0 for an unknown session."""
        table = self._tables.get(session)
        return table.length if table else 0

    def admission(self, session: str) -> int:
        """A number that is new whenever a session without pages gets some; 0 for one without."""
        table = self._tables.get(session)
        return table.admission if table else 0

    def admit(self, session: str, prompt: Sequence[int], protect: Sequence[str], length: int) -> bool:
        """Allocate pages for `length` positions, evicting sessions if needed. False, without evictions, if impossible.

        A session that holds nothing takes the published pages of its prompt's prefix first; `length` then
        tells how much of it is cached. The prompt's last token is always left to compute.
        """
        table = self._tables.get(session) or self._join(session)
        new = not table.pages
        copied = self._share(table, prompt, length) if new and self._sharing else []
        needed = max(-(-length // self.page_tokens), len(copied)) - len(table.pages)
        victims = self._victims(table, needed - len(self._blank) - len(self._warm), protect)
        if victims is None:
            if new:
                self._release(table)
            return False
        for victim in victims:
            self._release(victim)
        for _ in range(needed):
            page = self._take(table.pages[-1] + 1 if table.pages else None)
            self._refs[page] = 1
            table.pages.append(page)
        if new:
            self._admitted += 1
            table.admission = self._admitted
        self.copies = list(zip(copied, table.pages[: len(copied)], strict=True))
        return True

    def fed(self, session: str, length: int) -> None:
        """The KV of the first `length` positions, all committed, is computed: publish full prompt pages."""
        table = self._tables[session]
        if length > len(table.pages) * self.page_tokens:
            raise ValueError(f"{session}: {length} positions in {len(table.pages)} pages")
        table.length = length
        while table.published < min(len(table.prefixes), length // self.page_tokens):
            page, prefix = table.pages[table.published], table.prefixes[table.published]
            if (
                prefix not in self._page_of
            ):  # else somebody computed the same meanwhile: this copy stays private
                self._page_of[prefix], self._hash_of[page] = page, prefix
            table.published += 1

    def keep(self, session: str, length: int, open_nodes: int = 0) -> None:
        """Roll back to the first `length` positions and give back the pages beyond. Never into published pages.

        open_nodes: slots behind these positions that stay in use.
        """
        table = self._tables[session]
        if length < table.published * self.page_tokens:
            raise ValueError(f"{session}: rollback to {length}, into shared prompt pages")
        self.fed(session, length)
        while len(table.pages) > -(-(length + open_nodes) // self.page_tokens):
            self._drop(table.pages.pop())

    def forget(self, session: str) -> None:
        """Free all pages of a session and its place in the order. Unknown sessions are ignored."""
        table = self._tables.pop(session, None)
        if table:
            self._release(table)

    def _join(self, session: str) -> _Table:
        self._joined += 1
        self._tables[session] = _Table(self._joined)
        return self._tables[session]

    def _share(self, table: _Table, prompt: Sequence[int], length: int) -> list[int]:
        """Find the published pages of the prompt's prefix. Gives them when they are to be copied, else they are held.

        Those to be copied are not held: a page may be its own copy's target, or that of another.
        """
        table.prefixes = prefix_hashes(prompt, self.page_tokens)
        shareable = (len(prompt) - 1) // self.page_tokens if prompt else 0
        found: list[int] = []
        for prefix in table.prefixes[:shareable]:
            page = self._page_of.get(prefix)
            if page is None:
                break
            found.append(page)
        table.length = len(found) * self.page_tokens
        if self._to_be_copied(found, -(-length // self.page_tokens)):
            return found
        for page in found:
            self._warm.pop(page, None)
            self._refs[page] += 1
        table.pages, table.published = found, len(found)
        return []

    def _to_be_copied(self, found: list[int], pages: int) -> bool:
        """Whether copying the shared pages keeps the run contiguous without evicting a session."""
        short = self._contiguous and 0 < len(found) <= COPIED_PAGES
        return short and max(pages, len(found)) <= len(self._blank) + len(self._warm)

    def _victims(self, table: _Table, missing: int, protect: Sequence[str]) -> list[_Table] | None:
        """Sessions to evict for `missing` more pages; None when evicting is not enough."""
        younger = [
            (other.order, name)
            for name, other in self._tables.items()
            if other.pages and other.order > table.order and name not in protect
        ]
        younger.sort()
        victims: list[_Table] = []
        left: Counter[int] = Counter()
        while missing > 0:
            if not younger:
                return None
            victims.append(self._tables[younger.pop()[1]])
            for page in victims[-1].pages:
                left[page] += 1
                missing -= left[page] == self._refs[page]
        return victims

    def _release(self, table: _Table) -> None:
        for page in reversed(table.pages):  # a prefix outlives what builds on it
            self._drop(page)
        table.pages, table.prefixes, table.length, table.published = [], [], 0, 0
        table.admission = 0

    def _drop(self, page: int) -> None:
        self._refs[page] -= 1
        if self._refs[page] == 0:
            del self._refs[page]
            (self._warm if page in self._hash_of else self._blank)[page] = None

    def _take(self, after: int | None) -> int:
        """A free page: in contiguous runs `after` or the start of a new run, else a blank one, else the oldest warm."""
        if self._contiguous:
            page = after if after in self._blank or after in self._warm else self._roomiest()
            self._blank.pop(page, None)
            self._warm.pop(page, None)
        elif self._blank:
            page, _ = self._blank.popitem()
        else:
            page = next(iter(self._warm))
            del self._warm[page]
        prefix = self._hash_of.pop(page, None)
        if prefix is not None:
            del self._page_of[prefix]
        return page

    def _roomiest(self) -> int:
        """Start of a new run of pages: the roundest number in the widest gap between held pages.

        So the runs of several sessions start at equal distances, and a batch of them reads as one strided
        view. Example: 1,024 pages, runs begin at 0, 512, 256, 768, 128, ...
        """
        held = sorted(self._refs)
        gaps = zip([-1, *held], [*held, self.pages], strict=True)
        _, low, high = max((right - left, -left, right) for left, right in gaps)
        return roundest(1 - low, high)


def roundest(low: int, high: int) -> int:
    """The number in [low, high) that most powers of two divide; 0 is the roundest of all. 5, 20 -> 16."""
    if low == 0:
        return 0
    bit = (
        (low - 1) ^ (high - 1)
    ).bit_length() - 1  # the highest in which a number outside and the last differ
    return (high - 1) >> bit << bit


def prefix_hashes(prompt: Sequence[int], page_tokens: int) -> list[bytes]:
    """A hash for each full page of the prompt, over all tokens from the first to that page's last."""
    hashes: list[bytes] = []
    before = b""
    for start in range(0, len(prompt) - page_tokens + 1, page_tokens):
        tokens = array("q", prompt[start : start + page_tokens]).tobytes()
        before = blake2b(before + tokens, digest_size=16).digest()
        hashes.append(before)
    return hashes
