"""The compare tab: the scenarios of a study as a table and as curves."""

from pathlib import Path

import gradio as gr
import pandas as pd

from ..study import Study, load_study
from .markup import notice
from .run_view import plot_update
from .services import Services
from .study_tables import curve_names, study_curves, study_table
from .workspace import look_up

ERRORS = (ValueError, OSError)
NO_STUDIES_YET = "There is no study in {} yet: create one with hf-multitask study CONFIG."


def build_compare_tab(page: gr.Blocks, tab: gr.Tab, services: Services) -> None:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        tab: The tab, which looks for new studies when it is opened.
        services: Backend of the app.
    """
    chosen = gr.Dropdown(label="Study", elem_id="study")
    advice = gr.HTML(elem_id="advice")
    results = gr.Dataframe(
        interactive=False, wrap=True, max_height=420, elem_id="results", visible=False, label="Scenarios"
    )
    with gr.Row():
        curve = gr.Dropdown(label="Curves", visible=False, elem_id="curve", scale=3)
        size = gr.Dropdown(label="Training rows", visible=False, elem_id="size", scale=1)
    plot = gr.LinePlot(
        x="epoch",
        y="value",
        color="curve",
        color_title="scenario",
        tooltip="all",
        height=380,
        visible=False,
        elem_id="study-curves",
    )

    def open_study(name: str | None) -> Study:
        return load_study(look_up("study", name, services.workspace.studies()))

    def find_studies(name: str | None) -> object:
        names = list(services.workspace.studies())
        return gr.Dropdown(choices=names, value=name if name in names else next(iter(names), None))

    def show(name: str | None) -> list[object]:
        if not name:
            text = NO_STUDIES_YET.format(_display_path(services.workspace.root))
            return [notice(text), *[gr.update(visible=False)] * 4]
        try:
            study = open_study(name)
        except ERRORS as error:
            return [notice(str(error), "error"), *[gr.update(visible=False)] * 4]
        header, rows = study_table(study)
        names = list(curve_names(study))
        first, sizes = next(iter(names), None), study.sizes
        largest = sizes[-1] if sizes else None
        return [
            notice(study.advice),
            gr.Dataframe(pd.DataFrame(rows, columns=header), visible=True),
            gr.Dropdown(choices=names, value=first, visible=True),
            gr.Dropdown(choices=sizes, value=largest, visible=len(sizes) > 1),
            _curves_update(study, first, largest),
        ]

    def draw(name: str | None, curve_name: str | None, rows: int | None) -> object:
        try:
            return _curves_update(open_study(name), curve_name, rows)
        except ERRORS as error:
            gr.Warning(str(error))
            return gr.skip()

    private = {"api_visibility": "private", "show_progress": "minimal"}
    shown = [advice, results, curve, size, plot]
    page.load(find_studies, chosen, chosen, **private).then(show, chosen, shown, **private)
    tab.select(find_studies, chosen, chosen, **private).then(show, chosen, shown, **private)
    chosen.input(show, chosen, shown, **private)
    gr.on([curve.input, size.input], draw, [chosen, curve, size], plot, **private, trigger_mode="always_last")


def _curves_update(study: Study, curve_name: str | None, rows: int | None) -> gr.LinePlot:
    names = curve_names(study)
    points = study_curves(study, rows, names[curve_name]) if curve_name in names and rows is not None else []
    return plot_update(points, y_title=curve_name)


def _display_path(folder: Path) -> str:
    """Return a folder relative to the working directory, if it is inside that."""
    working_dir = Path.cwd()
    return str(folder.relative_to(working_dir)) if folder.is_relative_to(working_dir) else str(folder)
