"""The cells of the equality suite: settings, load and crashes, under all of which the texts must be equal."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Killed = Literal["", "draft_worker", "verifier", "scheduler", "connections", "ranks"]
KINDS: tuple[Killed, ...] = ("draft_worker", "verifier", "scheduler", "connections")
TREE_CELLS: tuple[tuple[int, Killed], ...] = ((1, ""), (8, ""), (8, "ranks"))  # where the core grows trees
TREE_KINDS: tuple[Killed, ...] = ("", "ranks", "draft_worker", "scheduler")  # while devices grow trees
WINDOWS = ("threshold", "fused")  # devices that stop by themselves; the core's own drafts
PIPELINES = (  # prefix sharing, layers of the stages, tokens of a page; SmolLM2 has 30 layers
    (True, "17,13", 16),
    (True, "9,7,7,7", 5),
    (False, "1,9,2,8,3,6,1", 16),
)
SERVED: tuple[tuple[str, int], ...] = (
    ("autoregressive", 0),
    ("greedy-batch", 0),
    *((policy, k) for policy in ("fixed-k", "cyclic-k") for k in (1, 4, 8)),
    ("dip-sd", 0),
    ("outrider", 0),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run over all cases. killed: what is killed twice during generation; "" = nothing.

    window: the controller that sets draft lengths; "" = the policy does. core_draft: the draft model drafts at the
    core as well, where the window asks for it. layers: of the stages of a pipeline, as in OUTRIDER_STAGE_LAYERS; "" =
    the target is in one process. "ranks": all processes of the pipeline are killed, one after the other, each twice.
    """

    sharing: bool
    policy: str
    k: int
    users: int
    killed: Killed = ""
    window: str = ""
    core_draft: bool = False
    layers: str = ""
    page_tokens: int = 16

    @property
    def stack(self) -> tuple[bool, str, bool, str, int]:
        """What a stack is started with: sharing, window controller, draft model at the core, stages, pages."""
        return self.sharing, self.window, self.core_draft, self.layers, self.page_tokens

    @property
    def stages(self) -> int:
        """Stages of the pipeline; 1 = none."""
        return len(self.layers.split(","))

    @property
    def all_kills(self) -> int:
        """Kills during the run."""
        if self.killed == "ranks":
            return 2 * (self.stages + 1)
        return 2 if self.killed else 0

    def key(self) -> dict[str, Any]:
        """The cell as an object of the result file."""
        return asdict(self)


def all_cells() -> Iterator[Cell]:
    """All cells, those of one stack after another."""
    for sharing in (True, False):
        for users in (8, 1):
            for policy, k in SERVED:
                yield Cell(sharing, policy, k, users)
        for killed in KINDS:
            yield Cell(sharing, "cyclic-k" if sharing else "fixed-k", 4, 8, killed)
            yield Cell(sharing, "outrider", 0, 8, killed)
    for window in WINDOWS:
        yield Cell(True, "fixed-k", 4, 1, window=window)
        for killed in ("", *KINDS):
            yield Cell(True, "fixed-k", 4, 8, killed, window)
    for killed in ("", "verifier"):
        yield Cell(True, "fixed-k", 4, 8, killed, "fused", core_draft=True)
    yield from _of_pipelines()


def _of_pipelines() -> Iterator[Cell]:
    """Rows; trees that the core grows; trees that devices grow."""
    for sharing, layers, page_tokens in PIPELINES:
        for users, policy, k in (
            (1, "fixed-k", 4),
            (8, "cyclic-k", 4),
            (8, "outrider", 0),
            (8, "autoregressive", 0),
        ):
            yield Cell(sharing, policy, k, users, layers=layers, page_tokens=page_tokens)
        yield Cell(sharing, "cyclic-k", 4, 8, "ranks", layers=layers, page_tokens=page_tokens)
    for sharing, layers, page_tokens in PIPELINES:
        for users, died in TREE_CELLS:
            yield Cell(sharing, "fixed-k", 4, users, died, "flowspec", True, layers, page_tokens)
    for sharing, layers, page_tokens in PIPELINES:
        for users in (1, 8):
            for killed in TREE_KINDS:
                yield Cell(sharing, "flowspec", 4, users, killed, layers=layers, page_tokens=page_tokens)
    for users in (1, 8):  # trees for a target in one process
        yield Cell(True, "flowspec", 4, users)


def sample() -> list[Cell]:
    """A pairwise sample for `make test`: every pair of values occurs at least once, each role dies at least once."""
    return [
        Cell(True, "autoregressive", 0, 1),
        Cell(True, "greedy-batch", 0, 8),
        Cell(True, "fixed-k", 1, 1),
        Cell(True, "fixed-k", 4, 8, "draft_worker"),
        Cell(True, "cyclic-k", 8, 8, "verifier"),
        Cell(False, "greedy-batch", 0, 1),
        Cell(False, "autoregressive", 0, 8),
        Cell(False, "fixed-k", 8, 1),
        Cell(False, "cyclic-k", 1, 8, "scheduler"),
        Cell(False, "cyclic-k", 4, 1, "connections"),
        Cell(True, "dip-sd", 0, 8),
        Cell(False, "outrider", 0, 8, "scheduler"),
        Cell(True, "fixed-k", 4, 8, "draft_worker", "threshold"),
        Cell(True, "fixed-k", 4, 8, "verifier", "fused"),
        Cell(True, "fixed-k", 4, 8, "verifier", "fused", core_draft=True),
        Cell(True, "cyclic-k", 4, 8, layers="9,7,7,7"),
        Cell(True, "cyclic-k", 4, 8, "ranks", layers="16,14"),
        Cell(True, "flowspec", 4, 1, "draft_worker", layers="16,14"),
        Cell(True, "flowspec", 4, 8, "ranks", layers="16,14"),
        Cell(True, "fixed-k", 4, 1, "", "flowspec", core_draft=True, layers="16,14"),
        Cell(True, "fixed-k", 4, 8, "ranks", "flowspec", core_draft=True, layers="16,14"),
    ]
