"""The part of the train tab that shows a run: its state, its curves, its scores and its mistakes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from .chart_colors import chart_colors
from .job_process import FAILED, STOPPED, STOPPING
from .jobs import JobStatus
from .live_view import QUIET, WAIT, Drawing, Shown, follow, name_in_training, name_to_show
from .markup import notice, progress_bar, table
from .mistakes_view import show_mistakes
from .report_view import show_conflict, show_frozen_layers
from .run_actions import RunActions, build_run_actions, connect_run_actions, show_actions
from .run_progress import CurvePoint, loss_curves, score_curves
from .services import Services
from .toasts import warn
from .train_form import FORM_ERRORS, TrainForm, read_form

NO_RUN_YET = "No run yet. Press Start to train a model and see its curves here."
CURVE_COLUMNS = list(CurvePoint._fields)
# A single point draws no line.
MIN_POINTS = 2


class RunView(NamedTuple):
    """Components that show a run; as the value of an event, the update of each component.

    Args:
        run: The run that is shown, and the choice of others.
        state: State of the run, with its progress.
        losses: Curves of the losses.
        scores: Curves of the main metrics.
        frozen_layers: Layers that were frozen because they had stopped learning, if the run freezes such layers.
        conflict: Pictures of the conflict between tasks, if the run compares them.
        metrics: Metrics of the finished run.
        mistakes: Worst mistakes of the finished run.
        start: Button that starts a run.
        stop: Button that stops the run.
    """

    run: gr.Dropdown
    state: gr.HTML | str
    losses: gr.LinePlot
    scores: gr.LinePlot
    frozen_layers: gr.HTML | str
    conflict: gr.HTML | str
    metrics: gr.HTML | str
    mistakes: gr.HTML | str
    start: gr.Button
    stop: gr.Button


def build_run_view(form: TrainForm) -> tuple[RunView, RunActions]:
    """Build the components that show a run.

    Args:
        form: Form with the buttons that start and stop a run.

    Returns:
        The components with the two buttons, and the buttons for the shown run.
    """
    # Custom values, since a page may name a run that another page has renamed: the view shows another one then.
    run = gr.Dropdown(label="Run", elem_id="run", visible=False, allow_custom_value=True)
    state = gr.HTML(elem_id="run-state")
    actions = build_run_actions()
    view = RunView(
        run=run,
        state=state,
        losses=_build_plot("loss", "losses", "Losses"),
        scores=_build_plot("score on validation", "scores", "Scores on validation"),
        frozen_layers=gr.HTML(elem_id="run-frozen-layers"),
        conflict=gr.HTML(elem_id="run-conflict"),
        metrics=gr.HTML(elem_id="run-metrics"),
        mistakes=gr.HTML(elem_id="run-mistakes"),
        start=form.start,
        stop=form.stop,
    )
    return view, actions


def show_run(
    names: Sequence[str], job: JobStatus | None, training: str | None, drawing: Drawing | None = None
) -> RunView:
    """Return the updates that show a run.

    Args:
        names: Names of all runs.
        job: State of the run to show, or None if there is no run.
        training: Name of the run or study that is training, if any.
        drawing: What the plots show, if they have shown anything before.
    """
    start = gr.Button(interactive=training is None)
    wait = notice(WAIT.format(training)) if training is not None and (job is None or job.name != training) else ""
    if job is None:
        hidden = gr.Dropdown(choices=[], value=None, visible=False)
        empty = plot_update([])
        return RunView(
            hidden, notice(NO_RUN_YET) + wait, empty, empty, "", "", "", "", start, gr.Button(interactive=False)
        )
    kind = {FAILED: "error", STOPPED: "warning"}.get(job.state, "info")
    bar = progress_bar(job.progress.step, job.progress.max_steps) if job.is_active else ""
    history, tasks = job.progress.history, job.progress.tasks
    x_title = "epoch" if drawing is None else drawing.title("epoch")
    return RunView(
        run=gr.Dropdown(choices=list(names), value=job.name, visible=True),
        state=notice(job.message, kind) + bar + wait,
        losses=plot_update(loss_curves(history, tasks), x_title=x_title),
        scores=plot_update(score_curves(history, tasks), x_title=x_title),
        frozen_layers=show_frozen_layers(history),
        conflict=show_conflict([task.name for task in tasks], history),
        metrics=_metrics_table(job),
        mistakes=show_mistakes(job.mistakes),
        start=start,
        stop=gr.Button("Stop at once" if job.state == STOPPING else "Stop", interactive=training in names),
    )


def connect_run_view(page: gr.Blocks, services: Services, view: RunView, actions: RunActions, form: TrainForm) -> None:
    """Connect the components to the runs: refresh them regularly, and let the buttons act on them.

    The view reads the runs from disk, so a page that is opened later shows them too.

    Args:
        page: The page.
        services: Backend of the app.
        view: The components that show a run.
        actions: The buttons for the shown run.
        form: Form with the choices for the next run.
    """
    last_shown = gr.State()
    outputs = [*view, *actions.buttons, last_shown]

    def refresh(chosen: str | None, last: Shown | None = None) -> list[object]:
        names = services.jobs.names()
        name = name_to_show(names, chosen, last)
        job = None if name is None else services.jobs.status(name)
        training = name_in_training(services)
        curves = _curve_names(job)
        drawing = Drawing(curves) if last is None else last.drawing.next(curves)
        facts = () if job is None else (job.message, len(job.progress.history))
        now = Shown(names, name, (training, *facts), drawing)
        # Updating a plot draws it again and closes its tooltip, so update only if something has changed.
        if now == last:
            return [gr.skip()] * len(outputs)
        models = services.workspace.models()
        buttons = show_actions(job, services.model_of_run(name, models) is not None, training is not None)
        return [*show_run(names, job, training, drawing), *buttons, now]

    def start(*values: Any) -> list[object]:
        problem, name = "", None
        try:
            name = services.start(*read_form(values))
        except FORM_ERRORS as error:
            warn(error)
            problem = notice(str(error), "error")
        return [*refresh(name), problem]

    def stop(chosen: str | None) -> list[object]:
        services.jobs.stop()
        return refresh(chosen)

    follow(page, view.run, refresh, outputs, last_shown)
    view.start.click(start, form.inputs, [*outputs, form.problem], **QUIET)
    view.stop.click(stop, view.run, outputs, **QUIET)
    connect_run_actions(services, actions, view.run, refresh, outputs)


def plot_update(points: Sequence[CurvePoint], **options: object) -> gr.LinePlot:
    """Return the update that shows points in a plot, or hides the plot if no curve has enough points for a line.

    Args:
        points: The points.
        options: Other properties of the plot to update.
    """
    curves = Counter(point.curve for point in points)
    if max(curves.values(), default=0) < MIN_POINTS:
        return gr.LinePlot(value=None, visible=False)
    values = pd.DataFrame(points, columns=CURVE_COLUMNS)
    return gr.LinePlot(value=values, color_map=chart_colors(curves), visible=True, **options)


def _curve_names(job: JobStatus | None) -> tuple[str, ...]:
    """Return the names of the curves that there are points of."""
    if job is None:
        return ()
    history, tasks = job.progress.history, job.progress.tasks
    points = [*loss_curves(history, tasks), *score_curves(history, tasks)]
    return tuple(dict.fromkeys(point.curve for point in points))


def _build_plot(y_title: str, elem_id: str, title: str) -> gr.LinePlot:
    return gr.LinePlot(
        x="epoch",
        y="value",
        color="curve",
        title=title,
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
    return table(["metric", *job.metrics], rows, "Scores") if rows else ""
