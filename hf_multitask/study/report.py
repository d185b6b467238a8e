"""Reports of a study as HTML and as Markdown, built from the same sections so that their numbers agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..reports.figure_style import to_png, to_svg
from ..reports.page import Paragraph, Section, SvgFigure, Table, escape_markdown, markdown_table, render_page
from ..runtime.atomic_files import write_text
from ..training.calibration import CALIBRATION_ERROR, calibration_metric_names
from .figures import NamedFigure, draw_learning_curves, draw_study
from .scenarios import alone_name
from .statistics import Interval
from .study_results import ScenarioResult, Score, Study

HTML_NAME, MARKDOWN_NAME, FIGURES_FOLDER = "study.html", "study.md", "pictures"
NOTHING = "–"
ABOUT_TIME = (
    "Time is training time, with evaluations on validation. For a scenario that starts from a trained model, the "
    "total includes the time of that model. Runs share the cached states of frozen layers: the first run that needs "
    "them computes them, and its time includes that. Memory is the peak during training: of the device, or without "
    "one the resident memory of the process, which includes Python, its libraries and the files that are read."
)
ABOUT_TEST = "The epoch of each run was chosen on validation, all scores are on test."
ABOUT_FOLDS = (
    "Each run held out one fold, on which its epoch was chosen and its score measured: all scores are a little too "
    "high, and comparable."
)
ABOUT_CHANGES = (
    "Drift measures how far the encoder's states of validation texts moved from the start of a run to its end: the "
    "mean of 1 − cosine over texts and over tokens; 0 if the encoder is frozen. The loss gap is validation loss minus "
    "mean training loss of the kept epoch; it grows with overfitting, and can be negative as only training has "
    "dropout. Forgetting is the drop of a task's main metric on validation: from its best value in the run, and from "
    "the trained model that the run started from. It is negative if the metric improved."
)


def write_reports(study: Study) -> list[Path]:
    """Write ``study.html``, ``study.md`` and the figures into the folder of a study.

    Args:
        study: The study.

    Returns:
        The files.

    Raises:
        ImportError: If matplotlib or jinja2 is not installed.
    """
    scores, curves = draw_study(study), list(draw_learning_curves(study))
    paths: list[Path] = []
    svgs: dict[str, SvgFigure] = {}
    for named in [*scores, *curves]:
        svg = to_svg(named.figure)
        svgs[named.name] = SvgFigure(svg, named.caption)
        path = study.folder / FIGURES_FOLDER / f"{named.name}.svg"
        write_text(path, svg)
        path.with_suffix(".png").write_bytes(to_png(named.figure))
        paths += [path, path.with_suffix(".png")]
    sections = build_sections(study, _select(svgs, scores), _select(svgs, curves))
    title = f"Freezing scenarios compared: {', '.join(task.name for task in study.tasks)}"
    html, markdown = study.folder / HTML_NAME, study.folder / MARKDOWN_NAME
    write_text(html, render_page(title, sections))
    files = {svg.caption: f"{FIGURES_FOLDER}/{name}.png" for name, svg in svgs.items()}
    write_text(markdown, to_markdown(title, sections, files))
    return [html, markdown, *paths]


def build_sections(study: Study, scores: Sequence[SvgFigure], curves: Sequence[SvgFigure]) -> list[Section]:
    """Build the sections of both reports.

    Args:
        study: The study.
        scores: Figures of the scores.
        curves: Figures of the learning curves.

    Returns:
        The sections.
    """
    sections = [Section("Results", [Paragraph(study.advice), Paragraph(_basis(study))])]
    largest = study.sizes[-1]
    for size in reversed(study.sizes):
        figures = scores if size == largest else []
        sections.append(Section(f"Scores with {size:,} training rows", [scores_table(study, size), *figures]))
    for size in reversed(study.sizes):
        if (sharing := sharing_table(study, size)) is not None:
            sections.append(Section(f"Sharing with {size:,} training rows", [sharing]))
    for title, about, table in (
        ("Cost", ABOUT_TIME, costs_table),
        ("Drift, overfitting and forgetting", ABOUT_CHANGES, changes_table),
    ):
        for size in reversed(study.sizes):
            notes = [Paragraph(about)] if size == largest else []
            with_size = title if len(study.sizes) == 1 else f"{title} with {size:,} training rows"
            sections.append(Section(with_size, [*notes, table(study, size)]))
    if curves:
        sections.append(Section("Learning curves", curves))
    if study.skipped:
        rows = [[item["scenario"], f"{item['size']:,}", item["reason"]] for item in study.skipped]
        sections.append(Section("Skipped scenarios", [Table(["scenario", "training rows", "reason"], rows)]))
    rows = [[scenario.name, scenario.about] for scenario in study.scenarios]
    sections.append(Section("Scenarios", [Table(["scenario", "description"], rows)]))
    return sections


def scores_table(study: Study, size: int) -> Table:
    """Return the scores on test with a number of training rows, with a row per scenario."""
    first = study.scenarios[0].name
    pairs = "row, fold and seed" if study.has_folds else "row and seed"
    header = ["scenario"]
    for task in study.tasks:
        header += [study.main_metrics[task.name], f"vs. {first}"]
    header += ["mean of the tasks", f"vs. {first}"]
    rows = []
    for scenario, summary in study.summaries(size):
        cells = [scenario.name]
        for score in [*(summary.scores.get(task.name) for task in study.tasks), summary.overall]:
            cells += [score_cell(score), difference_cell(score)]
        rows.append(cells)
    return Table(
        header,
        rows,
        f"Scores on {study.scored_rows}, mean ± standard deviation over {study.repeats}; differences from {first} "
        f"with their 95 % interval by a bootstrap that is paired by {pairs}. * marks statistically significant "
        "differences.",
    )


def sharing_table(study: Study, size: int) -> Table | None:
    """Return what each task gains by sharing the encoder of the first scenario, with a number of training rows.

    Returns:
        The table, with a row for each task that was trained by itself; None if none was.
    """
    summaries = {scenario.name: summary for scenario, summary in study.summaries(size)}
    first = study.scenarios[0].name
    rows = []
    for task in study.tasks:
        alone = summaries[alone_name(task.name)].scores.get(task.name) if alone_name(task.name) in summaries else None
        together = summaries[first].scores.get(task.name) if first in summaries else None
        if alone is None or together is None or alone.difference is None:
            continue
        difference = alone.difference
        gain = Score(
            alone.metric, 0.0, None, Interval(0.0 - difference.mean, 0.0 - difference.high, 0.0 - difference.low)
        )
        rows.append(
            [task.name, study.main_metrics[task.name], *map(score_cell, (together, alone)), difference_cell(gain)]
        )
    caption = (
        f"Scores of {first} and of a model of each task only, on the same rows, and the first minus the second with "
        "its 95 % interval: what a task gains by sharing. * marks statistically significant differences."
    )
    return Table(["task", "metric", first, "alone", "gain by sharing"], rows, caption) if rows else None


def costs_table(study: Study, size: int) -> Table:
    """Return time, memory and trainable parameters with a number of training rows, with a row per scenario."""
    front = study.front(size)
    rows = [
        [
            scenario.name,
            f"{summary.seconds:,.1f}",
            f"{summary.total_seconds:,.1f}",
            f"{summary.peak_memory_bytes / 2**20:,.0f}",
            f"{summary.trainable_parameters:,}",
            "yes" if scenario.name in front else NOTHING if summary.overall is None else "no",
            f"{summary.out_of_time} of {sum(run.size == size for run in scenario.runs)}",
        ]
        for scenario, summary in study.summaries(size)
    ]
    header = ["scenario", "seconds", "total seconds", "peak MiB", "trainable parameters", "Pareto front", "cut short"]
    if not any(summary.out_of_time for _, summary in study.summaries(size)):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(header, rows, f"Means over {study.repeats}; for memory and trainable parameters, the maximum.")


def changes_table(study: Study, size: int) -> Table:
    """Return drift, loss gap, forgetting, calibration and frozen tasks of a size, with a row per scenario."""
    names = [task.name for task in study.tasks]
    header = ["scenario", "drift of texts", "drift of tokens", "loss gap"]
    header += [f"{name}: drop from its best" for name in names] + [f"{name}: drop from the start" for name in names]
    scored = [task.name for task in study.tasks if calibration_metric_names(task)]
    header += [f"{name}: calibration error" for name in scored]
    header += [f"frozen task on {study.scored_rows}"]
    compared = any(summary.lowest_cosine is not None for _, summary in study.summaries(size))
    header += ["lowest cosine of two tasks"] if compared else []
    rows = []
    for scenario, summary in study.summaries(size):
        drops = [summary.forgetting.get(task) for task in names]
        frozen = summary.frozen_task
        rows.append(
            [
                scenario.name,
                *(number_cell(summary.drift.get(kind)) for kind in ("pooled", "tokens")),
                number_cell(summary.loss_gap),
                *(number_cell(None if drop is None else drop.from_best) for drop in drops),
                *(number_cell(None if drop is None else drop.from_start) for drop in drops),
                *(number_cell(_calibration_error(scenario, size, name)) for name in scored),
                NOTHING if frozen is None else f"{frozen.task}: {frozen.before:.4f} before, {frozen.after:.4f} after",
                *([number_cell(summary.lowest_cosine)] if compared else []),
            ]
        )
    caption = f"Means over {study.repeats}."
    if scored:
        caption += f" Calibration errors are those of the scores on {study.scored_rows} without a temperature."
    return Table(header, rows, caption)


def _calibration_error(scenario: ScenarioResult, size: int, name: str) -> float | None:
    """Return the mean expected calibration error of a task; None for studies of earlier versions, which have none."""
    metric = f"{name}_{CALIBRATION_ERROR}"
    errors = [
        run.metrics["test"][metric] for run in scenario.runs if run.size == size and metric in run.metrics["test"]
    ]
    return sum(errors) / len(errors) if errors else None


def score_cell(score: Score | None) -> str:
    """Format a score with its standard deviation."""
    if score is None:
        return NOTHING
    return f"{score.mean:.4f}" if score.sd is None else f"{score.mean:.4f} ± {score.sd:.4f}"


def difference_cell(score: Score | None) -> str:
    """Format a difference with its interval, and a star if it is beyond chance."""
    if score is None or score.difference is None:
        return NOTHING
    difference = score.difference
    star = " *" if difference.excludes_zero else ""
    return f"{difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}){star}"


def number_cell(value: float | None) -> str:
    """Format a number that may be missing."""
    # Adding 0 turns -0.0 into 0.0.
    return NOTHING if value is None else f"{round(value, 4) + 0.0:.4f}"


def to_markdown(title: str, sections: Sequence[Section], files: Mapping[str, str]) -> str:
    """Render sections as Markdown.

    Args:
        title: Title of the document.
        sections: The sections.
        files: Files of the figures, by caption.
    """
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            if isinstance(part, Table):
                lines += [markdown_table(part), ""]
            elif isinstance(part, SvgFigure):
                caption = escape_markdown(part.caption)
                lines += [f"![{caption}]({files[part.caption]})", "", caption, ""]
            elif isinstance(part, Paragraph):
                lines += [escape_markdown(part.text), ""]
    return "\n".join(lines)


def _basis(study: Study) -> str:
    """Return the facts that all runs share, as a paragraph."""
    rows = ", ".join(f"{count:,} {split}" for split, count in study.num_rows.items())
    training = study.config["training"]
    budget = (
        f"{training['max_steps']} steps"
        if training.get("max_steps", -1) > 0
        else f"{training.get('num_train_epochs', 3):g} epochs"
    )
    minutes = study.config["minutes"]
    limit = "" if minutes is None else f", at most {minutes:g} minutes each"
    return (
        f"Encoder {study.config['encoder']}; rows: {rows}; {budget}{limit}; seeds "
        f"{', '.join(map(str, study.config['seeds']))}. {ABOUT_FOLDS if study.has_folds else ABOUT_TEST}"
    )


def _select(svgs: Mapping[str, SvgFigure], figures: Sequence[NamedFigure]) -> list[SvgFigure]:
    return [svgs[named.name] for named in figures]
