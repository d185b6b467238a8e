"""The results of a study: its sentence, its price list, and all numbers and curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gradio as gr
import pandas as pd

from ..study import Study, load_study
from .chart_colors import chart_colors
from .markup import notice, table
from .run_view import plot_update
from .services import Services
from .study_tables import PRICE_HEADER, curve_names, price_list, price_points, study_curves, study_table
from .toasts import warn
from .workspace import look_up

ERRORS = (ValueError, OSError)
POINT_COLUMNS = ["minutes", "score", "way to train"]


class StudyView(NamedTuple):
    """Components that show the results of a study; as the value of an event, the update of each component.

    Args:
        advice: The sentence.
        prices: The price list.
        chart: Score against minutes.
        details: Frame of the components below.
        results: All numbers.
        curve: The curve that is drawn.
        size: Number of training rows that the curves are of.
        plot: The curves.
    """

    advice: gr.HTML | str
    prices: gr.HTML | str
    chart: gr.ScatterPlot
    details: gr.Accordion
    results: gr.Dataframe
    curve: gr.Dropdown
    size: gr.Dropdown
    plot: gr.LinePlot


def build_study_view() -> StudyView:
    """Build the components, hidden until there is a study."""
    advice = gr.HTML(elem_id="advice")
    prices = gr.HTML(elem_id="prices")
    chart = gr.ScatterPlot(
        x="minutes",
        y="score",
        color="way to train",
        title="Score against training time",
        x_title="minutes",
        y_title="mean score of the tasks",
        color_title=" ",
        tooltip="all",
        height=320,
        visible=False,
        elem_id="price-chart",
    )
    with gr.Accordion("All numbers and learning curves", open=False, visible=False, elem_id="details") as details:
        results = gr.Dataframe(interactive=False, wrap=True, max_height=420, elem_id="results", label="All numbers")
        with gr.Row():
            curve = gr.Dropdown(label="Curves", allow_custom_value=True, elem_id="curve", scale=3)
            size = gr.Dropdown(label="Training rows", allow_custom_value=True, visible=False, elem_id="size", scale=1)
        plot = gr.LinePlot(
            x="epoch",
            y="value",
            color="curve",
            title="Learning curves",
            color_title="way to train",
            tooltip="all",
            height=380,
            visible=False,
            elem_id="study-curves",
        )
    return StudyView(advice, prices, chart, details, results, curve, size, plot)


def show_study(services: Services, name: str | None) -> StudyView:
    """Return the updates that show the results of a study.

    Args:
        services: Backend of the app.
        name: Name of the study, or None if there is none.
    """
    empty = plot_update([])
    hidden = StudyView(
        "",
        "",
        gr.ScatterPlot(value=None, visible=False),
        gr.Accordion(visible=False),
        gr.skip(),
        gr.skip(),
        gr.skip(),
        empty,
    )
    if not name or name not in services.workspace.studies():
        return hidden
    try:
        study = open_study(services, name)
    except ERRORS as error:
        return hidden._replace(advice=notice(str(error), "error"))
    names = list(curve_names(study))
    first, largest = next(iter(names), None), study.sizes[-1]
    header, rows = study_table(study)
    return StudyView(
        advice=notice(study.advice),
        prices=table(PRICE_HEADER, price_list(study), "Price list"),
        chart=price_chart(price_points(study)),
        details=gr.Accordion(visible=True),
        results=gr.Dataframe(pd.DataFrame(rows, columns=header)),
        curve=gr.Dropdown(choices=names, value=first, visible=True),
        size=gr.Dropdown(choices=study.sizes, value=largest, visible=len(study.sizes) > 1),
        plot=_curves_update(study, first, largest),
    )


def connect_study_view(services: Services, view: StudyView, chosen: gr.Dropdown) -> None:
    """Let the choice of a curve draw it.

    Args:
        services: Backend of the app.
        view: The components.
        chosen: The study.
    """

    def draw(name: str | None, curve_name: str | None, rows: int | None) -> object:
        try:
            return _curves_update(open_study(services, name), curve_name, rows)
        except ERRORS as error:
            warn(error)
            return gr.skip()

    changes = [view.curve.input, view.size.input]
    inputs = [chosen, view.curve, view.size]
    gr.on(changes, draw, inputs, view.plot, api_visibility="private", trigger_mode="always_last")


def open_study(services: Services, name: str | None) -> Study:
    """Load a study of the workspace.

    Raises:
        ValueError: If it does not exist or is damaged.
        OSError: If it is not finished.
    """
    return load_study(look_up("study", name, services.workspace.studies()))


def display_path(folder: Path) -> str:
    """Return a folder relative to the working directory, if it is inside that."""
    working_dir = Path.cwd()
    return str(folder.relative_to(working_dir)) if folder.is_relative_to(working_dir) else str(folder)


def price_chart(points: Sequence[tuple[float, float, str]]) -> gr.ScatterPlot:
    """Return the update that draws scores against minutes.

    Args:
        points: Minutes, score and name of each way to train.
    """
    if not points:
        return gr.ScatterPlot(value=None, visible=False)
    # From 0, so that a way that takes twice as long is twice as far to the right.
    limits = [0, 1.05 * max(minutes for minutes, _, _ in points)]
    values, colors = pd.DataFrame(points, columns=POINT_COLUMNS), chart_colors(name for _, _, name in points)
    return gr.ScatterPlot(value=values, color_map=colors, x_lim=limits, visible=True)


def _curves_update(study: Study, curve_name: str | None, rows: int | None) -> gr.LinePlot:
    names = curve_names(study)
    points = study_curves(study, rows, names[curve_name]) if curve_name in names and rows is not None else []
    return plot_update(points, y_title=curve_name)
