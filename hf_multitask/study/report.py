"""A study as a page and as Markdown, both of the same parts, so that their numbers are the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..reports.figure_style import to_png, to_svg
from ..reports.page import Paragraph, Section, SvgFigure, Table, render_page
from ..runtime.atomic_files import write_text
from .figures import NamedFigure, draw_learning_curves, draw_study
from .statistics import Interval
from .study_results import Score, Study, Summary

HTML_NAME, MARKDOWN_NAME, PICTURES_FOLDER = "study.html", "study.md", "pictures"
NOTHING = "–"
ABOUT_TIME = (
    "Time is that of training with its evaluations on validation; of a scenario that starts from a trained model, the "
    "time of that model is part of the total. Runs share the states of frozen layers: the first run that needs them "
    "computes them, and its time has that. Memory is the peak while training: of the device, or the resident memory "
    "of the process, which includes Python, its libraries and the files that are read."
)
ABOUT_LOSS = (
    "Drift is how far the encoder's states of validation texts moved from the run's start to its end: the mean of "
    "1 − cosine over texts and over tokens; 0 where the encoder is frozen. The gap is validation loss less mean "
    "training loss of the kept epoch; it grows with overfitting, and can be below 0 as only training has dropout. "
    "Forgetting is what a task lost on validation, by its main metric: against its best in the run, and against the "
    "trained model that the run started from. Below 0 it gained."
)


def write_reports(study: Study) -> list[Path]:
    """Write ``study.html``, ``study.md`` and the pictures into a study's folder.

    Args:
        study: The study.

    Returns:
        The files.

    Raises:
        ImportError: If matplotlib or jinja2 is not installed.
    """
    figures, curves = draw_study(study), list(draw_learning_curves(study))
    paths: list[Path] = []
    pictures: dict[str, SvgFigure] = {}
    for named in [*figures, *curves]:
        svg = to_svg(named.figure)
        pictures[named.name] = SvgFigure(svg, named.caption)
        path = study.folder / PICTURES_FOLDER / f"{named.name}.svg"
        write_text(path, svg)
        path.with_suffix(".png").write_bytes(to_png(named.figure))
        paths += [path, path.with_suffix(".png")]
    sections = build_sections(study, _chosen(pictures, figures), _chosen(pictures, curves))
    title = f"Freezing scenarios compared: {', '.join(task.name for task in study.tasks)}"
    html, markdown = study.folder / HTML_NAME, study.folder / MARKDOWN_NAME
    write_text(html, render_page(title, sections))
    files = {picture.caption: f"{PICTURES_FOLDER}/{name}.png" for name, picture in pictures.items()}
    write_text(markdown, to_markdown(title, sections, files))
    return [html, markdown, *paths]


def build_sections(study: Study, pictures: Sequence[SvgFigure], curves: Sequence[SvgFigure]) -> list[Section]:
    """Put together what stands in both reports.

    Args:
        study: The study.
        pictures: The pictures of scores.
        curves: The learning curves.

    Returns:
        The sections.
    """
    sections = [Section("What the data say", [Paragraph(study.advice), Paragraph(_basis(study))])]
    for size in reversed(study.sizes):
        parts: list[Paragraph | Table | SvgFigure] = [scores_table(study, size)]
        if size == study.sizes[-1]:
            parts += pictures
        sections.append(Section(f"Scores with {size:,} training rows", parts))
    largest = study.sizes[-1]
    for size in reversed(study.sizes):
        title = "Cost" if len(study.sizes) == 1 else f"Cost with {size:,} training rows"
        notes = [Paragraph(ABOUT_TIME)] if size == largest else []
        sections.append(Section(title, [*notes, costs_table(study, size)]))
    for size in reversed(study.sizes):
        title = "What moved" if len(study.sizes) == 1 else f"What moved with {size:,} training rows"
        notes = [Paragraph(ABOUT_LOSS)] if size == largest else []
        sections.append(Section(title, [*notes, changes_table(study, size)]))
    if curves:
        sections.append(Section("Learning curves", curves))
    if study.skipped:
        rows = [[item["scenario"], f"{item['size']:,}", item["reason"]] for item in study.skipped]
        sections.append(Section("Left out", [Table(["scenario", "training rows", "why"], rows)]))
    rows = [[scenario.name, scenario.about] for scenario in study.scenarios]
    sections.append(Section("The scenarios", [Table(["scenario", "what trains"], rows)]))
    return sections


def scores_table(study: Study, size: int) -> Table:
    """Return the scores on test with a number of training rows, a row for each scenario."""
    first = study.scenarios[0].name
    header = ["scenario"]
    for task in study.tasks:
        header += [study.main_metrics[task.name], f"from {first}"]
    header += ["mean of the tasks", f"from {first}"]
    rows = []
    for name, summary in _summaries(study, size):
        cells = [name]
        for score in [*(summary.scores.get(task.name) for task in study.tasks), summary.overall]:
            cells += [score_cell(score), difference_cell(score)]
        rows.append(cells)
    return Table(
        header,
        rows,
        f"Scores on test, mean ± standard deviation over the seeds; differences from {first} with their 95 % "
        "interval by a bootstrap that is paired by row and seed. * marks what chance does not explain.",
    )


def costs_table(study: Study, size: int) -> Table:
    """Return time, memory and weights with a number of training rows, a row for each scenario."""
    front = study.front(size)
    rows = []
    for name, summary in _summaries(study, size):
        rows.append(
            [
                name,
                f"{summary.seconds:,.1f}",
                f"{summary.total_seconds:,.1f}",
                f"{summary.peak_memory_bytes / 2**20:,.0f}",
                f"{summary.trainable_parameters:,}",
                "yes" if name in front else NOTHING if summary.overall is None else "no",
                f"{summary.out_of_time} of {len(summary.seeds)}",
            ]
        )
    header = ["scenario", "seconds", "seconds in total", "peak MiB", "weights that train", "Pareto front", "cut short"]
    timed = any(summary.out_of_time for _, summary in _summaries(study, size))
    if not timed:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(header, rows, "Means over the seeds; of memory and weights the most.")


def changes_table(study: Study, size: int) -> Table:
    """Return drift, gap, forgetting and frozen tasks with a number of training rows, a row for each scenario."""
    names = [task.name for task in study.tasks]
    header = ["scenario", "drift of texts", "drift of tokens", "loss gap"]
    header += [f"{name}: lost from its best" for name in names] + [f"{name}: lost from the start" for name in names]
    header += ["frozen task on test"]
    rows = []
    for name, summary in _summaries(study, size):
        lost = [summary.forgetting.get(task) for task in names]
        frozen = summary.frozen_task
        rows.append(
            [
                name,
                *(number_cell(summary.drift.get(kind)) for kind in ("pooled", "tokens")),
                number_cell(summary.loss_gap),
                *(number_cell(None if item is None else item.from_best) for item in lost),
                *(number_cell(None if item is None else item.from_start) for item in lost),
                NOTHING if frozen is None else f"{frozen.task}: {frozen.before:.4f} before, {frozen.after:.4f} after",
            ]
        )
    return Table(header, rows, "Means over the seeds.")


def score_cell(score: Score | None) -> str:
    """Write a score with its deviation."""
    if score is None:
        return NOTHING
    return f"{score.mean:.4f}" if score.sd is None else f"{score.mean:.4f} ± {score.sd:.4f}"


def difference_cell(score: Score | None) -> str:
    """Write a difference with its interval, and a star where it is beyond chance."""
    if score is None or score.difference is None:
        return NOTHING
    found: Interval = score.difference
    star = " *" if found.is_clear else ""
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}){star}"


def number_cell(value: float | None) -> str:
    """Write a number, or that there is none."""
    # Adding 0 makes a zero of a negative one.
    return NOTHING if value is None else f"{round(value, 4) + 0.0:.4f}"


def to_markdown(title: str, sections: Sequence[Section], files: Mapping[str, str]) -> str:
    """Write sections as Markdown.

    Args:
        title: The title.
        sections: The sections.
        files: By caption the file of a picture.
    """
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            if isinstance(part, Table):
                lines += [*([part.caption, ""] if part.caption else []), _row(part.header)]
                lines += [_row(["---"] * len(part.header)), *map(_row, part.rows), ""]
            elif isinstance(part, SvgFigure):
                lines += [f"![{_escaped(part.caption)}]({files[part.caption]})", "", _escaped(part.caption), ""]
            elif isinstance(part, Paragraph):
                lines += [_escaped(part.text), ""]
    return "\n".join(lines)


def _basis(study: Study) -> str:
    rows = ", ".join(f"{count:,} {split}" for split, count in study.num_rows.items())
    training = study.config["training"]
    budget = (
        f"{training['max_steps']} steps"
        if training.get("max_steps", -1) > 0
        else f"{training.get('num_train_epochs', 3):g} epochs"
    )
    minutes = study.config["minutes"]
    clock = "" if minutes is None else f", at most {minutes:g} minutes each"
    return (
        f"Encoder {study.config['encoder']}; rows: {rows}; {budget}{clock}; seeds "
        f"{', '.join(map(str, study.config['seeds']))}. The epoch of each run was chosen on validation, all scores "
        "are on test."
    )


def _summaries(study: Study, size: int) -> list[tuple[str, Summary]]:
    found = [(scenario.name, scenario.summary_of(size)) for scenario in study.scenarios]
    return [(name, summary) for name, summary in found if summary is not None]


def _chosen(pictures: Mapping[str, SvgFigure], figures: Sequence[NamedFigure]) -> list[SvgFigure]:
    return [pictures[named.name] for named in figures]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")
