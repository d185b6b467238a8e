"""The part of the train tab that shows the current run."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from ..reports.figure_style import COLORS
from .jobs import FAILED, STOPPED, STOPPING, JobStatus
from .markup import notice, progress_bar, table
from .run_progress import CurvePoint, loss_curves, score_curves
from .services import Services
from .train_form import FORM_ERRORS, TrainForm, read_form

NO_RUN_YET = "No run yet. Start trains one and draws its curves here."
SECONDS_BETWEEN_REFRESHES = 1.0
CURVE_COLUMNS = list(CurvePoint._fields)
# A single point draws no line.
MIN_POINTS = 2


class RunView(NamedTuple):
    """Components that show a run; as the value of an event, the update of each component.

    Args:
        state: State of the run, with its progress.
        losses: Curves of the losses.
        scores: Curves of the main metrics.
        metrics: Metrics of the finished run.
        start: Button that starts a run.
        stop: Button that stops the run.
    """

    state: gr.HTML | str
    losses: gr.LinePlot
    scores: gr.LinePlot
    metrics: gr.HTML | str
    start: gr.Button
    stop: gr.Button


def build_run_view(form: TrainForm) -> RunView:
    """Build the components that show a run.

    Args:
        form: Form with the buttons that start and stop a run.

    Returns:
        The components, with the two buttons.
    """
    return RunView(
        state=gr.HTML(elem_id="run-state"),
        losses=_build_plot("loss", "losses"),
        scores=_build_plot("score on validation", "scores"),
        metrics=gr.HTML(elem_id="run-metrics"),
        start=form.start,
        stop=form.stop,
    )


def show_run(job: JobStatus | None) -> RunView:
    """Return the updates that show the state, the curves, the metrics and the buttons of a run.

    Args:
        job: State of the run, or None if there is no run.
    """
    if job is None:
        return RunView(
            state=notice(NO_RUN_YET),
            losses=plot_update([]),
            scores=plot_update([]),
            metrics="",
            start=gr.Button(interactive=True),
            stop=gr.Button(interactive=False),
        )
    kind = {FAILED: "error", STOPPED: "warning"}.get(job.state, "info")
    bar = progress_bar(job.progress.step, job.progress.max_steps) if job.is_active else ""
    history, tasks = job.progress.history, job.progress.tasks
    return RunView(
        state=notice(job.message, kind) + bar,
        losses=plot_update(loss_curves(history, tasks)),
        scores=plot_update(score_curves(history, tasks)),
        metrics=_metrics_table(job),
        start=gr.Button(interactive=not job.is_active),
        stop=gr.Button("Stop at once" if job.state == STOPPING else "Stop", interactive=job.is_active),
    )


def connect_run_view(page: gr.Blocks, services: Services, view: RunView, form: TrainForm) -> None:
    """Connect the components to the run: refresh them regularly, and let the buttons start and stop it.

    The view reads the run from disk, so a page that is opened later shows it too.

    Args:
        page: The page.
        services: Backend of the app.
        view: The components.
        form: Form with the choices for the next run.
    """
    last_shown = gr.State()
    outputs = [*view, last_shown]

    def refresh(last: object = None) -> list[object]:
        job = services.jobs.latest()
        now = ("", "", 0) if job is None else (job.name, job.message, len(job.progress.history))
        # Updating a plot draws it again and closes its tooltip, so update only if something has changed.
        return [gr.skip()] * len(outputs) if now == last else [*show_run(job), now]

    def show_now() -> list[object]:
        return refresh()

    def start(*values: Any) -> list[object]:
        problem = ""
        try:
            services.start(*read_form(values))
        except FORM_ERRORS as error:
            gr.Warning(str(error))
            problem = notice(str(error), "error")
        return [*refresh(), problem]

    def stop() -> list[object]:
        services.jobs.stop()
        return refresh()

    hidden = {"api_visibility": "private", "show_progress": "hidden"}
    page.load(show_now, outputs=outputs, **hidden)
    gr.Timer(SECONDS_BETWEEN_REFRESHES).tick(refresh, last_shown, outputs, **hidden)
    view.start.click(start, form.inputs, [*outputs, form.problem], **hidden)
    view.stop.click(stop, outputs=outputs, **hidden)


def plot_update(points: Sequence[CurvePoint], **options: object) -> gr.LinePlot:
    """Return the update that shows points in a plot, or hides the plot if no curve has enough points for a line.

    Args:
        points: The points.
        options: Other properties of the plot to update.
    """
    curves = Counter(point.curve for point in points)
    if max(curves.values(), default=0) < MIN_POINTS:
        return gr.LinePlot(value=None, visible=False)
    colors = {curve: COLORS[i % len(COLORS)] for i, curve in enumerate(curves)}
    return gr.LinePlot(value=pd.DataFrame(points, columns=CURVE_COLUMNS), color_map=colors, visible=True, **options)


def _build_plot(y_title: str, elem_id: str) -> gr.LinePlot:
    return gr.LinePlot(
        x="epoch",
        y="value",
        color="curve",
        y_title=y_title,
        color_title=" ",
        tooltip="all",
        height=240,
        visible=False,
        elem_id=elem_id,
    )


def _metrics_table(job: JobStatus) -> str:
    names = dict.fromkeys(name for values in job.metrics.values() for name in values)
    rows = [
        [name, *(f"{values[name]:.4f}" if name in values else "" for values in job.metrics.values())] for name in names
    ]
    return table(["metric", *job.metrics], rows) if rows else ""
