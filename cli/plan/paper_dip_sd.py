"""`outrider paper dip-sd`: the paper's headline ratios from its model, and sweeps over users and α."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared.planning import paper_setting
from shared.planning.objective import Objective
from shared.planning.problem import expected_tokens
from shared.planning.solvers.solve import solve

USERS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 49)
ALPHAS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.78, 0.8, 0.85, 0.9, 0.95)
SWEPT_ALPHAS = (0.7, 0.78, 0.95)
SWEPT_USERS = (6, 14, 32)


@dataclass(frozen=True, slots=True)
class PaperPoint:
    """The plan at one operating point. rate: tokens per second; over_…: ratios to the baselines."""

    users: int
    alpha: float
    batches: int
    length: str
    rate: float
    over_autoregressive: float
    over_greedy_batch: float


@dataclass(frozen=True, slots=True)
class Headline:
    """A ratio that the paper publishes, and its operating point."""

    users: int
    alpha: float
    over: str
    published: float


HEADLINES = (
    Headline(14, 0.78, "AD", 17.89),
    Headline(14, 0.78, "AD with greedy batching", 1.38),
    Headline(6, 0.95, "AD with greedy batching", 1.93),
)


def point(users: int, alpha: float, *, min_draft: int = 1) -> PaperPoint:
    """The plan of our solver in the paper's setting."""
    problem = paper_setting.equal_users(users, alpha, min_draft=min_draft)
    plan, _ = solve(problem, Objective(), "outrider")
    rate = 1e3 * expected_tokens(problem, plan.split) / plan.cycle_ms
    lengths = sorted(set(plan.split.lengths))
    return PaperPoint(
        users,
        alpha,
        len(plan.split.batches),
        str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}",
        rate,
        rate / paper_setting.autoregressive_tokens_per_s(problem),
        rate / paper_setting.greedy_batch_tokens_per_s(problem),
    )


def run(out: Path) -> None:
    """Print the table; write the sweeps as CSV and as a picture."""
    console = Console(highlight=False)
    console.print(headline_table())
    out.mkdir(parents=True, exist_ok=True)
    by_users = [point(users, alpha) for alpha in SWEPT_ALPHAS for users in USERS]
    by_alpha = [point(users, alpha) for users in SWEPT_USERS for alpha in ALPHAS]
    _write(out / "dip-sd.csv", by_users + by_alpha)
    draw(out / "dip-sd.png", by_users, by_alpha)
    console.print(f"Sweeps: {out / 'dip-sd.csv'}, {out / 'dip-sd.png'}")


def headline_table() -> Table:
    """The published ratios beside those of our solver in the paper's model."""
    table = Table("users", "α", "over", "published", "ours", "batches", "draft length", "tok/s")
    for headline in HEADLINES:
        ours = point(headline.users, headline.alpha)
        ratio = ours.over_autoregressive if headline.over == "AD" else ours.over_greedy_batch
        table.add_row(
            str(headline.users),
            f"{headline.alpha:g}",
            headline.over,
            f"{headline.published:.2f}",
            f"{ratio:.4f}",
            str(ours.batches),
            ours.length,
            f"{ours.rate:.4f}",
        )
    return table


def draw(path: Path, by_users: Sequence[PaperPoint], by_alpha: Sequence[PaperPoint]) -> None:
    """Both sweeps, over autoregressive decoding and over greedy batching."""
    import matplotlib as mpl  # heavy, used only here
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
    for row, measure, label in (
        (0, "over_autoregressive", "× autoregressive"),
        (1, "over_greedy_batch", "× greedy batching"),
    ):
        for alpha in SWEPT_ALPHAS:
            points = [p for p in by_users if p.alpha == alpha]
            axes[row][0].plot(
                [p.users for p in points],
                [getattr(p, measure) for p in points],
                marker="o",
                label=f"α = {alpha:g}",
            )
        for users in SWEPT_USERS:
            points = [p for p in by_alpha if p.users == users]
            axes[row][1].plot(
                [p.alpha for p in points],
                [getattr(p, measure) for p in points],
                marker="o",
                label=f"M = {users}",
            )
        for column, name in ((0, "users M"), (1, "acceptance α")):
            axes[row][column].set(xlabel=name, ylabel=label)
            axes[row][column].grid(alpha=0.3)
            axes[row][column].legend()
    for headline in HEADLINES:
        row = 0 if headline.over == "AD" else 1
        for column, x in ((0, headline.users), (1, headline.alpha)):
            axes[row][column].plot(x, headline.published, "k*", markersize=11)
    figure.suptitle("DiP-SD's model, Outrider's solver; stars: published")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _write(path: Path, points: Sequence[PaperPoint]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(PaperPoint))
        writer.writerows(_rounded(points))


def _rounded(points: Sequence[PaperPoint]) -> Iterator[tuple[object, ...]]:
    for each in points:
        yield tuple(round(value, 4) if isinstance(value, float) else value for value in astuple(each))
