"""The page with its tabs."""

import gradio as gr

from .data_tab import build_data_tab, connect_data_tab
from .layers_tab import LayersTab, build_layers_tab
from .markup import notice
from .mistakes_view import worst_text
from .page_style import HISTORY, LISTS
from .run_actions import RunActions
from .run_view import RunView
from .services import Services
from .toasts import warn
from .train_tab import build_train_tab
from .try_tab import TryTab, build_try_tab

TITLE = "hf-multitask"
ERRORS = (ValueError, OSError)
TRAIN, DATA, TRY, LAYERS = "train", "data", "try", "layers"
# Seconds between looking for uploads that nobody has saved, and their age when they are deleted.
DELETE_UPLOADS = (3600, 24 * 3600)


def build_page(services: Services) -> gr.Blocks:
    """Build the page.

    Args:
        services: Backend of the app.

    Returns:
        The page, ready to launch.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=DELETE_UPLOADS) as page:
        gr.Markdown("# hf-multitask\nOne encoder, several jobs: train, try and compare.")
        with gr.Tabs() as tabs:
            with gr.Tab("Train", id=TRAIN):
                form, view, actions = build_train_tab(page, services)
            with gr.Tab("Own data", id=DATA):
                own = build_data_tab(page, services)
            with gr.Tab("Try", id=TRY) as try_tab:
                trying = build_try_tab(page, try_tab, services)
            with gr.Tab("Which layers", id=LAYERS) as layers_tab:
                layers = build_layers_tab(page, layers_tab, services, form)
        connect_data_tab(services, own, tabs, TRAIN, form)
        _connect_try_button(services, tabs, view, actions, trying)
        _connect_winner(services, tabs, view, layers)
        for script in (LISTS, HISTORY):
            page.load(js=script)
    return page


def _connect_try_button(services: Services, tabs: gr.Tabs, view: RunView, actions: RunActions, trying: TryTab) -> None:
    """Let the button of a run open its model in the try tab, with the text of its worst mistake."""

    def fill(name: str | None) -> list[object]:
        models = services.workspace.models()
        job = None if name is None else services.jobs.status(name)
        text = worst_text(job.mistakes) if job is not None else ""
        model = gr.Dropdown(choices=list(models), value=services.model_of_run(name, models))
        return [gr.Tabs(selected=TRY), model, text or gr.skip()]

    private = {"api_visibility": "private"}
    filled = actions.try_it.click(fill, view.run, [tabs, trying.model, trying.text], **private)
    filled.then(**trying.predict_event)


def _connect_winner(services: Services, tabs: gr.Tabs, view: RunView, layers: LayersTab) -> None:
    """Let the button of a study train its winner, and show the run in the train tab."""

    def train(study: str | None) -> list[object]:
        try:
            name = services.train_winner(study)
        except ERRORS as error:
            warn(error)
            return [gr.skip(), gr.skip(), notice(str(error), "error")]
        return [gr.Tabs(selected=TRAIN), gr.Dropdown(choices=services.jobs.names(), value=name, visible=True), ""]

    outputs = [tabs, view.run, layers.form.problem]
    layers.form.train.click(train, layers.form.chosen, outputs, api_visibility="private")
