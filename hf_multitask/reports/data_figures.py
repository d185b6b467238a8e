"""Figure of the data of a config: label counts and lengths."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.inspection.data_inspection import DataInspection, DatasetInspection
from ..data.inspection.lengths import Lengths
from ..runtime.atomic_files import whole_file
from .figure_style import COLORS, check_figure_path, figure_style, needs_log_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Hatches and dashes distinguish the splits without color.
STYLES = {
    "train": {"color": COLORS[0], "hatch": "", "linestyle": "-"},
    "validation": {"color": COLORS[4], "hatch": "///", "linestyle": "--"},
    "test": {"color": COLORS[3], "hatch": "...", "linestyle": ":"},
}
# Maximum number of labels per task. Half of them are the most frequent labels, half the rarest.
MAX_LABELS = 30
NUM_BINS = 40
# Counts that differ by more than this factor are drawn on a logarithmic scale.
LINEAR_RANGE = 50
WIDTH = 10.0  # inches, like all sizes
LENGTHS_HEIGHT = 3.0
LABEL_HEIGHT = 0.25
FRAME_HEIGHT = 1.3


def save_data_figure(inspection: DataInspection, path: str | Path) -> None:
    """Draw the label counts by task and split, and the lengths of the rows.

    Args:
        inspection: Result of `inspect_data`.
        path: PNG or SVG file to write.

    Raises:
        ValueError: If the file has another suffix.
        ImportError: If matplotlib is not installed.
    """
    check_figure_path(path)
    from matplotlib.figure import Figure

    panels = [
        (dataset, task)
        for dataset in inspection.datasets
        for task in dataset.tasks
        if dataset.shown_labels(task, MAX_LABELS)[0]
    ]
    heights = [FRAME_HEIGHT + LABEL_HEIGHT * _num_bars(dataset, task) for dataset, task in panels]
    heights += [LENGTHS_HEIGHT] * len(inspection.datasets)
    with figure_style():
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        for i, (dataset, task) in enumerate(panels):
            _draw_labels(figure.add_subplot(grid[i, :]), dataset, task, _title(inspection, dataset))
        for i, dataset in enumerate(inspection.datasets, start=len(panels)):
            title = _title(inspection, dataset)
            splits = dataset.splits
            words, subwords = figure.add_subplot(grid[i, 0]), figure.add_subplot(grid[i, 1])
            _draw_lengths(words, {split: splits[split].word_lengths for split in splits}, f"{title}words per row")
            _draw_lengths(
                subwords,
                {split: splits[split].subword_lengths for split in splits},
                f"{title}subwords per row",
                inspection.max_length,
            )
        with whole_file(Path(path)) as unfinished:
            figure.savefig(unfinished, format=Path(path).suffix.lower().removeprefix("."))


def _title(inspection: DataInspection, dataset: DatasetInspection) -> str:
    return "" if len(inspection.datasets) == 1 else f"data.{inspection.datasets.index(dataset)}: "


def _num_bars(dataset: DatasetInspection, task: str) -> int:
    names, hidden = dataset.shown_labels(task, MAX_LABELS)
    return len(names) + bool(hidden)


def _draw_labels(axes: "Axes", dataset: DatasetInspection, task: str, title: str) -> None:
    """Draw a group of bars for each label, with one bar per split."""
    names, hidden = dataset.shown_labels(task, MAX_LABELS)
    if hidden:
        # A line without bars in place of the hidden labels.
        names.insert(len(names) // 2, f"… {len(hidden)} more")
    counts = {
        split: [item.tasks[task].labels.get(name, 0) for name in names] for split, item in dataset.splits.items()
    }
    height = 0.8 / len(counts)
    for i, (split, values) in enumerate(counts.items()):
        style = STYLES[split]
        positions = [index - 0.4 + height * (i + 0.5) for index in range(len(names))]
        axes.barh(
            positions, values, height, label=split, color=style["color"], hatch=style["hatch"], edgecolor="black"
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    present = [value for values in counts.values() for value in values if value]
    axes.set_title(f"{title}{task}", loc="left")
    axes.set_xlabel("count")
    if needs_log_scale(present, LINEAR_RANGE):
        axes.set_xscale("log")
        axes.set_xlim(left=0.5)
        axes.set_xlabel("count (logarithmic)")
        axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(counts))


def _draw_lengths(axes: "Axes", lengths: dict[str, Lengths], label: str, max_length: int | None = None) -> None:
    """Draw the distribution of the lengths, with one line per split."""
    longest = max(item.longest for item in lengths.values())
    limit = max(item.percentiles["99"] for item in lengths.values())
    edges = _edges(limit)
    for split, item in lengths.items():
        share = [100 * rows / sum(item.rows) for rows in item.rows]
        style = STYLES[split]
        axes.hist(
            [min(length, limit) for length in item.lengths],
            edges,
            weights=share,
            histtype="step",
            label=split,
            color=style["color"],
            linestyle=style["linestyle"],
            linewidth=1.8,
        )
    if max_length is not None and max_length <= edges[-1]:
        axes.axvline(max_length, color="black", linewidth=1)
        axes.annotate(f" {max_length}: maximum length", (max_length, 0.5), xycoords=("data", "axes fraction"))
    axes.set_xlabel(f"{label}; the last bin contains longer rows" if longest > limit else label)
    axes.set_ylabel("% of rows")
    axes.legend()


def _edges(limit: int) -> Sequence[float]:
    """Return the edges of bins whose widths are equal integers, so that each contains the same number of lengths."""
    width = -(-(limit + 1) // NUM_BINS)
    return [start - 0.5 for start in range(0, limit + width + 1, width)]
