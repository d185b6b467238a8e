"""The tab that trains: data, what is frozen, the plan, and the run as it goes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import gradio as gr
import pandas as pd

from ..data import SPLITS
from ..freezing.plan import PLAN_HEADER
from ..reports.figure_style import COLORS
from ..runtime.byte_sizes import format_bytes
from .choices import (
    RunChoices,
    default_choices,
    freezable_groups,
    parse_tasks,
    schedule_names,
)
from .jobs import FAILED, STOPPED, STOPPING, JobStatus
from .markup import notice, progress_bar, table
from .plan_cache import EVERYTHING_FROZEN, is_everything_frozen
from .run_progress import CurvePoint, loss_curves, score_curves
from .services import Services
from .uploads import MAX_UPLOAD_BYTES

ERRORS = (ValueError, OSError, ImportError)
SECONDS_BETWEEN_LOOKS = 1.0
UPLOAD_HELP = (
    "JSONL, JSON, CSV, TSV, Parquet or CoNLL, at most "
    f"{format_bytes(MAX_UPLOAD_BYTES)} each. Without a validation file a tenth of train becomes one."
)
CURVE_COLUMNS = list(CurvePoint._fields)
MIN_POINTS = 2


def build_train_tab(page: gr.Blocks, services: Services) -> None:
    """Build the tab.

    Args:
        page: The page that it is in.
        services: What it works on.
    """
    with gr.Row():
        with gr.Column(scale=6):
            form, plan, start, stop, problem = _build_form(page, services)
        with gr.Column(scale=5):
            _build_run(page, services, form, start, stop, problem)
    with gr.Accordion("What is in the data", open=True):
        picture_problem = gr.HTML()
        picture = gr.Image(show_label=False, interactive=False, elem_id="data-picture", buttons=[])
    drawn = gr.State("")

    def show_picture(last: str, *values: Any) -> list[Any]:
        try:
            path = str(services.picture(values[0], RunChoices(*values[1:])))
        except ERRORS as error:
            return [None, notice(str(error), "error"), ""]
        return [gr.skip(), "", path] if path == last else [path, "", path]

    # The plan comes first: what is wrong with the data is said there.
    plan.change(
        show_picture,
        [drawn, *form],
        [picture, picture_problem, drawn],
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="always_last",
    )


def _build_form(
    page: gr.Blocks, services: Services
) -> tuple[list[gr.components.Component], gr.HTML, gr.Button, gr.Button, gr.HTML]:
    """Build what is chosen, and the plan that follows each choice."""
    base = services.base
    given = default_choices(base)
    data = gr.Dropdown(services.data_names(), value=services.default_data, label="Data", elem_id="data")
    with gr.Accordion("Upload data", open=False):
        gr.Markdown(UPLOAD_HELP)
        with gr.Row():
            files = [gr.File(label=split, height=130, elem_id=f"upload-{split}") for split in SPLITS]
        keep = gr.Button("Check and keep these files", size="sm")
        upload_problem = gr.HTML(elem_id="upload-problem")
    with gr.Accordion("Tasks, encoder and learning rates", open=False):
        tasks = gr.Textbox(given.tasks, label="Tasks, one a line", lines=2, max_lines=8, elem_id="tasks")
        encoder = gr.Textbox(
            given.encoder, label="Encoder: a hub name, or a model of Try to go on from", elem_id="encoder"
        )
        with gr.Row():
            rate = gr.Number(given.learning_rate, label="Learning rate of the encoder")
            head_rate = gr.Number(given.head_learning_rate, label="Learning rate of the heads")
    with gr.Row():
        schedule = gr.Dropdown(
            schedule_names(base),
            value=given.schedule,
            label="What trains: a schedule, or all but what is ticked",
            allow_custom_value=True,
            scale=2,
            elem_id="schedule",
        )
        epochs = gr.Number(given.epochs, label="Epochs", minimum=0, scale=1, elem_id="epochs")
    frozen = gr.CheckboxGroup(freezable_groups(base.tasks), label="Freeze", elem_id="frozen")
    plan = gr.HTML(elem_id="plan", label="Plan")
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="start")
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop")
    problem = gr.HTML(elem_id="problem")
    choices = [tasks, encoder, schedule, frozen, epochs, rate, head_rate]
    form = [data, *choices]

    def show_plan(*values: Any) -> str:
        try:
            stages = services.plan(values[0], RunChoices(*values[1:]))
        except ERRORS as error:
            return notice(str(error), "error")
        warning = notice(EVERYTHING_FROZEN, "warning") if is_everything_frozen(stages) else ""
        return warning + table(PLAN_HEADER, [stage.in_words() for stage in stages])

    def fill(name: str) -> list[Any]:
        try:
            chosen = services.base_config(name)
        except ERRORS as error:
            gr.Warning(str(error))
            return [gr.Dropdown(choices=services.data_names()), *[gr.skip()] * len(choices)]
        found = default_choices(chosen)
        return [
            gr.Dropdown(choices=services.data_names(), value=name),
            found.tasks,
            found.encoder,
            gr.Dropdown(choices=schedule_names(chosen), value=found.schedule),
            gr.CheckboxGroup(choices=freezable_groups(chosen.tasks), value=[]),
            found.epochs,
            found.learning_rate,
            found.head_learning_rate,
        ]

    def fill_boxes(text: str, ticked: Sequence[str]) -> Any:
        try:
            groups = freezable_groups(parse_tasks(text))
        except ValueError:
            return gr.skip()  # the plan says what is wrong
        return gr.CheckboxGroup(choices=groups, value=[name for _, name in groups if name in ticked])

    def keep_files(*paths: str | None) -> list[Any]:
        try:
            name = services.keep_upload(dict(zip(SPLITS, paths, strict=True)))
        except ERRORS as error:
            return [notice(str(error), "error"), *[gr.skip()] * (len(files) + len(form))]
        return [notice(f"{name} is kept; its tasks were guessed: look at them."), *[None] * len(files), *fill(name)]

    private = {"api_visibility": "private"}
    quiet = {**private, "show_progress": "minimal", "trigger_mode": "always_last"}
    page.load(lambda: gr.Dropdown(choices=services.data_names()), outputs=data, **private)
    page.load(show_plan, form, plan, **quiet)
    data.input(fill, data, form, **private).then(show_plan, form, plan, **quiet)
    keep.click(keep_files, files, [upload_problem, *files, *form], **private).then(show_plan, form, plan, **quiet)
    tasks.blur(fill_boxes, [tasks, frozen], frozen, **private).then(show_plan, form, plan, **quiet)
    changes = [schedule.input, frozen.input, epochs.input, rate.input, head_rate.input, encoder.blur]
    gr.on(changes, show_plan, form, plan, **quiet)
    return form, plan, start, stop, problem


def _build_run(
    page: gr.Blocks,
    services: Services,
    form: Sequence[gr.components.Component],
    start: gr.Button,
    stop: gr.Button,
    problem: gr.HTML,
) -> None:
    """Build what shows the run, which looks at the disk each second: so a page that is loaded anew finds it too."""
    state = gr.HTML(elem_id="run-state")
    losses = _plot("loss", "losses")
    scores = _plot("score on validation", "scores")
    metrics = gr.HTML(elem_id="run-metrics")
    seen = gr.State()
    shown = [state, losses, scores, metrics, start, stop, seen]

    def look(last: Any) -> list[Any]:
        job = services.jobs.latest()
        now = ("", "", 0) if job is None else (job.name, job.message, len(job.progress.history))
        if now == last:
            return [gr.skip()] * len(shown)
        return [*_show(job), now]

    def look_anew() -> list[Any]:
        return look(None)

    def begin(*values: Any) -> list[Any]:
        try:
            services.start(values[0], RunChoices(*values[1:]))
        except ERRORS as error:
            gr.Warning(str(error))
            return [*look(None), notice(str(error), "error")]
        return [*look(None), ""]

    def end() -> list[Any]:
        services.jobs.stop()
        return look(None)

    hidden = {"api_visibility": "private", "show_progress": "hidden"}
    page.load(look_anew, outputs=shown, **hidden)
    gr.Timer(SECONDS_BETWEEN_LOOKS).tick(look, seen, shown, **hidden)
    start.click(begin, form, [*shown, problem], **hidden)
    stop.click(end, outputs=shown, **hidden)


def _plot(what: str, name: str) -> gr.LinePlot:
    return gr.LinePlot(
        x="epoch",
        y="value",
        color="curve",
        y_title=what,
        color_title=" ",
        tooltip="all",
        height=240,
        visible=False,
        elem_id=name,
    )


def _show(job: JobStatus | None) -> list[Any]:
    """Return what the page shows of a run: its state, curves, metrics and buttons."""
    if job is None:
        text = "No run yet: Start trains one, and its curves are drawn here."
        empty = [plot_update([]), plot_update([]), ""]
        return [notice(text), *empty, gr.Button(interactive=True), gr.Button(interactive=False)]
    kind = {FAILED: "error", STOPPED: "warning"}.get(job.state, "info")
    bar = progress_bar(job.progress.step, job.progress.max_steps) if job.is_active else ""
    history, tasks = job.progress.history, job.progress.tasks
    names = dict.fromkeys(name for values in job.metrics.values() for name in values)
    rows = [
        [name, *(f"{values[name]:.4f}" if name in values else "" for values in job.metrics.values())] for name in names
    ]
    return [
        notice(job.message, kind) + bar,
        plot_update(loss_curves(history, tasks)),
        plot_update(score_curves(history, tasks)),
        table(["metric", *job.metrics], rows) if rows else "",
        gr.Button(interactive=not job.is_active),
        gr.Button("Stop at once" if job.state == STOPPING else "Stop", interactive=job.is_active),
    ]


def plot_update(points: Sequence[CurvePoint], **options: Any) -> Any:
    """Return what makes a plot show points; nothing where there are none to draw a line through.

    Args:
        points: The points.
        options: What else changes of the plot.
    """
    curves = Counter(point.curve for point in points)
    # A single point has no line to be seen by.
    if max(curves.values(), default=0) < MIN_POINTS:
        return gr.LinePlot(value=None, visible=False)
    colors = {curve: COLORS[i % len(COLORS)] for i, curve in enumerate(curves)}
    return gr.LinePlot(value=pd.DataFrame(points, columns=CURVE_COLUMNS), color_map=colors, visible=True, **options)
