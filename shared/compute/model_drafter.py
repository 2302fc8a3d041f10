"""A model as the core's own drafter: a second, small one in the verifier's process, beside the target.

It is a TargetModel as the target itself is, and draws with the same noise, so that its choices are drafts. What it
drafted is rolled back at once, and fed again with the next request where it was accepted.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from shared.compute.drafter import DraftRequest
from shared.compute.target import TargetModel, TargetRow

# Tokens that the first pass of a batch feeds at most: long prompts are read over several batches, without drafts.
MAX_FED: Final = 512

log = structlog.get_logger()


class ModelDrafter:
    """CoreDrafter on a model. All sessions of a batch are drafted together, one pass for each token."""

    def __init__(self, model: TargetModel) -> None:
        self._model = model

    def draft(self, requests: Sequence[DraftRequest]) -> list[tuple[int, ...]]:
        """The model's own next tokens; () for sessions that it has not read yet, or has no room for."""
        try:
            return self._draft(requests)
        except Exception:  # whatever torch raises: rows can do without drafts
            log.exception("the core's draft failed", sessions=[request.session for request in requests])
            for request in requests:
                self._model.forget(request.session)
            return [() for _ in requests]

    def forget(self, session: str) -> None:
        """Free the session's cache."""
        self._model.forget(session)

    def _draft(self, requests: Sequence[DraftRequest]) -> list[tuple[int, ...]]:
        drafts: dict[str, list[int]] = {request.session: [] for request in requests}
        rows = self._first_rows(requests)
        while rows:
            rows = self._step(rows, drafts, requests)
        for request in requests:
            if drafts[request.session]:
                self._model.keep(request.session, len(request.ids))
        return [tuple(drafts[request.session]) for request in requests]

    def _first_rows(self, requests: Sequence[DraftRequest]) -> list[TargetRow]:
        """Rows that feed what the model lacks of each session, at least its last token; those that lack least first.

        Without room, in its pages or in the pass, a session has no row.
        """
        rows, room, protect = [], MAX_FED, [request.session for request in requests]
        for request in sorted(requests, key=self._missing):
            session, ids = request.session, request.ids
            if self._model.cached(session) >= len(ids):  # a row once more: its last token must be fed
                self._model.forget(session)
            if room == 0 or not self._model.admit(session, ids, protect, len(ids) + request.k):
                continue
            start = self._model.cached(session)
            fed = ids[start : start + room]
            room -= len(fed)
            whole = start + len(fed) == len(ids)
            rows.append(TargetRow(session, start, fed, len(fed), whole, request.sampling))
        return rows

    def _missing(self, request: DraftRequest) -> int:
        """Tokens of a session that the model has not read."""
        return len(request.ids) - self._model.cached(request.session)

    def _step(
        self, rows: Sequence[TargetRow], drafts: dict[str, list[int]], requests: Sequence[DraftRequest]
    ) -> list[TargetRow]:
        """One pass over the rows, and the rows of the next one."""
        requested = {request.session: request.k for request in requests}
        following = []
        for row, choices in zip(rows, self._model.forward(rows), strict=True):
            if not row.choose:
                continue
            (token,) = choices.tokens
            drafts[row.session].append(token)
            if len(drafts[row.session]) < requested[row.session]:
                end = row.start + len(row.tokens)
                following.append(TargetRow(row.session, end, (token,), 1, True, row.sampling))
        return following
