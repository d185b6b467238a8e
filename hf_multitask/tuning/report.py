"""Report of a search: ``tuning.md`` with tables and a figure."""

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from ..reports.figure_style import COLORS, figure_style, to_png, to_svg
from ..reports.page import Table, markdown_table
from ..runtime.atomic_files import write_text
from ..runtime.fold_scores import MEAN
from .results import TuningResult
from .search import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT_NAME, FIGURE_NAME = "tuning.md", "tuning"
BEST_CONFIG_NAME = "best.yaml"
# All sizes are in inches.
WIDTH, ROW_HEIGHT, FRAME_HEIGHT, MIN_HEIGHT = 10.0, 0.27, 1.1, 3.4
MAX_KEYS = 12


def write_report(result: TuningResult) -> list[Path]:
    """Write ``tuning.md`` and its figure into the folder of a search.

    Args:
        result: Results of the search.

    Returns:
        The files.
    """
    figure = draw_search(result)
    svg, png = (result.folder / f"{FIGURE_NAME}.{suffix}" for suffix in ("svg", "png"))
    write_text(svg, to_svg(figure))
    png.write_bytes(to_png(figure))
    page = result.folder / REPORT_NAME
    write_text(page, _to_markdown(result))
    return [page, svg, png]


def trials_table(result: TuningResult, num_rows: int | None = None) -> Table:
    """Return a table of the trials, best first.

    Args:
        result: Results of the search.
        num_rows: Number of trials to show; all if None.
    """
    rows = [
        [
            str(trial.number),
            f"{_number(trial.value)}{' (pruned)' if trial.pruned else ''}",
            f"{trial.seconds:,.0f} s",
            describe(trial.values, result.base),
        ]
        for trial in result.ranking[:num_rows]
    ]
    return Table(["trial", result.metric, "time", "differs from the config in"], rows)


def scores_table(result: TuningResult) -> Table:
    """Return a table of the winner's scores: mean and standard deviation over the seeds."""
    held_out = MEAN if MEAN in result.scores else "validation"
    validation, test = result.summary(held_out), result.summary("test")
    names = [name for name in {**validation, **test} if not name.endswith("loss")]
    rows = [[name, *(_cell(scores.get(name)) for scores in (validation, test))] for name in names]
    return Table(["metric of the winner", held_out, "test"], rows)


def importance_table(result: TuningResult) -> Table:
    """Return a table of the share of each key in the differences between the trials, largest first."""
    rows = [[key, f"{100 * share:.0f} %"] for key, share in result.importance.items()]
    return Table(["key", "importance"], rows)


def summarize(result: TuningResult) -> str:
    """Return the outcome as a sentence."""
    base, best = result.base_trial, result.best_trial
    pruned = sum(trial.pruned for trial in result.trials)
    seconds = sum(trial.seconds for trial in result.trials)
    cost = f", in {seconds / base.seconds:.1f} times the time of the config itself" if base.seconds else ""
    gain = (
        f"trial {best.number} has {result.metric} {_number(best.value)} on validation; the config itself "
        f"{_number(base.value)}"
    )
    return f"{len(result.trials)} trials, {pruned} of them pruned{cost}: {gain}."


def draw_search(result: TuningResult) -> "Figure":
    """Draw the scores of the trials and the importance of the keys."""
    from matplotlib.figure import Figure

    keys = list(result.importance.items())[:MAX_KEYS]
    with figure_style():
        figure = Figure(figsize=(WIDTH, max(MIN_HEIGHT, FRAME_HEIGHT + ROW_HEIGHT * len(keys))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_trials(left, result)
        right.barh([key for key, _ in reversed(keys)], [share for _, share in reversed(keys)], color=COLORS[0])
        right.set_title("importance", loc="left")
        if not keys:
            right.set_axis_off()
            right.set_title("importance: too few finished trials", loc="left")
    return figure


def _draw_trials(axes: "Axes", result: TuningResult) -> None:
    from matplotlib.ticker import MaxNLocator

    points = [(trial.number, trial.value, trial.pruned) for trial in result.trials if trial.value is not None]
    finished = [(number, value) for number, value, is_pruned in points if not is_pruned]
    pruned = [(number, value) for number, value, is_pruned in points if is_pruned]
    numbers, values = zip(*finished, strict=True)
    best = list(accumulate(values, max if result.maximize else min))
    axes.plot(numbers, values, "o", color=COLORS[0], label="finished")
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color="0.45", label="pruned")
    axes.step(numbers, best, where="post", color=COLORS[1], label="best so far")
    if result.base_trial.value is not None:
        axes.axhline(result.base_trial.value, color="0.6", linestyle=":", label="the config as it is")
    axes.set_xlabel("trial")
    axes.set_title(f"{result.metric} on validation", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _to_markdown(result: TuningResult) -> str:
    parts = ["# Search for settings", summarize(result)]
    seeds = next(iter(result.scores.values()), {})
    if seeds:
        parts += [
            f"## Scores of the winner\n\nTrained again with {len(seeds)} seeds: mean ± standard deviation.",
            markdown_table(scores_table(result)),
        ]
    parts += [
        f"Its config is `{BEST_CONFIG_NAME}`: `hf-multitask train {BEST_CONFIG_NAME}`",
        f"![Scores of the trials, and importance of the keys]({FIGURE_NAME}.png)",
        "## Trials, best first",
        markdown_table(trials_table(result)),
    ]
    if result.importance:
        about = "Share of each key in the differences between the finished trials (fANOVA, Hutter et al. 2014)."
        parts += [f"## Importance\n\n{about}", markdown_table(importance_table(result))]
    return "\n\n".join(parts) + "\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cell(score: tuple[float, float] | None) -> str:
    return "–" if score is None else f"{score[0]:.4f} ± {score[1]:.4f}"
