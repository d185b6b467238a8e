"""The try tab: predictions of one or two models for typed, pasted or uploaded texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from ..models.type_aliases import Row
from ..quickstart import QUICKSTART_SENTENCE
from .answers import ModelAnswers
from .answers_view import show_many, show_one
from .markup import notice
from .model_cache import OnShare
from .predictions_file import write_predictions
from .services import Services
from .try_texts import file_rows, pasted_rows
from .uploads import check_received
from .workspace import look_up

ERRORS = (ValueError, OSError, ImportError, RuntimeError)
NO_MODEL = "no second model"
NO_MODELS_YET = "There is no model yet. Train one in the Train tab."
FILE_TYPES = [".txt", ".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".parquet", ".conll"]


class TryTab(NamedTuple):
    """What another tab needs to try a model.

    Args:
        model: The model.
        text: The texts.
        predict_event: Function, inputs and outputs of the prediction.
    """

    model: gr.Dropdown
    text: gr.Textbox
    predict_event: dict[str, Any]


def build_try_tab(page: gr.Blocks, tab: gr.Tab, services: Services) -> TryTab:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        tab: The tab, which looks for new models when it is opened.
        services: Backend of the app.

    Returns:
        What another tab needs to try a model.
    """
    with gr.Row():
        # Custom values, since a page may name a model that was deleted: a message says so.
        first = gr.Dropdown(label="Model", allow_custom_value=True, elem_id="first-model")
        second = gr.Dropdown(
            [NO_MODEL],
            value=NO_MODEL,
            label="Second model, to compare with",
            allow_custom_value=True,
            elem_id="second-model",
        )
    text = gr.Textbox(
        QUICKSTART_SENTENCE,
        label="Texts",
        info="One text per line. Shift+Enter predicts.",
        lines=2,
        max_lines=12,
        elem_id="sentence",
    )
    with gr.Accordion("Or a file with many texts", open=False):
        file = gr.File(
            label="A text per line (.txt), or a table with a column of texts",
            file_types=FILE_TYPES,
            height=130,
            elem_id="texts-file",
        )
    ask = gr.Button("Predict", variant="primary", elem_id="ask")
    problem = gr.HTML(elem_id="answer-problem")
    answers = gr.HTML(elem_id="answers")
    with gr.Row():
        downloads = [
            gr.DownloadButton("Download as CSV", size="sm", min_width=110, visible=False, elem_id="download-csv"),
            gr.DownloadButton("Download as JSONL", size="sm", min_width=110, visible=False, elem_id="download-jsonl"),
        ]

    def find_models(first_name: str | None, second_name: str | None) -> list[object]:
        names = list(services.workspace.models())
        return [
            gr.Dropdown(choices=names, value=first_name if first_name in names else next(iter(names), None)),
            gr.Dropdown(choices=[NO_MODEL, *names], value=second_name if second_name in names else NO_MODEL),
        ]

    def predict(
        first_name: str | None,
        second_name: str | None,
        typed: str,
        path: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it here)
    ) -> list[object]:
        hidden = [gr.DownloadButton(visible=False)] * len(downloads)
        if not first_name:
            return [notice(NO_MODELS_YET), "", *hidden]
        names = [first_name] if second_name in (None, NO_MODEL) else [first_name, str(second_name)]
        try:
            rows = _rows_of(services, typed, path)
        except ERRORS as error:
            return [notice(str(error), "error"), "", *hidden]
        found, problems = _ask_models(services, names, rows, progress)
        # Both models report the same error in the texts; show it once.
        problem_text = "".join(notice(message, "error") for message in dict.fromkeys(problems))
        if not found:
            return [problem_text, "", *hidden]
        shown = _show(services, found, rows)
        files = write_predictions(services.workspace.received_dir, found)
        return [problem_text, shown, *(gr.DownloadButton(value=str(name), visible=True) for name in files)]

    outputs = [problem, answers, *downloads]
    predict_event = {
        "fn": predict,
        "inputs": [first, second, text, file],
        "outputs": outputs,
        "api_visibility": "private",
        "show_progress_on": answers,
    }
    find_event = {
        "fn": find_models,
        "inputs": [first, second],
        "outputs": [first, second],
        "api_visibility": "private",
    }
    page.load(**find_event).then(**predict_event)
    tab.select(**find_event)
    # A request during a prediction is run after it instead of dropped.
    asked = [ask.click, text.submit, first.input, second.input, file.upload, file.clear]
    gr.on(asked, **predict_event, trigger_mode="always_last")
    return TryTab(first, text, predict_event)


def _rows_of(services: Services, typed: str, path: str | None) -> list[Row]:
    """Return the rows of the file, or the typed texts if there is no file."""
    if not path:
        return pasted_rows(typed)
    check_received(services.workspace, Path(path))
    return file_rows(Path(path))


def _ask_models(
    services: Services, names: Sequence[str], rows: Sequence[Row], progress: OnShare
) -> tuple[list[ModelAnswers], list[str]]:
    """Return the predictions of the models that have any, and the problems of the others."""
    answers, problems = [], []
    for i, name in enumerate(names):

        def report(share: float, done: int = i) -> None:
            progress((done + share) / len(names))

        try:
            folder = look_up("model", name, services.workspace.models())
            answers.append(ModelAnswers(name, services.model_cache.predict(folder, rows, report)))
        except ERRORS as error:
            problems.append(str(error))
    return answers, problems


def _show(services: Services, answers: Sequence[ModelAnswers], rows: Sequence[Row]) -> str:
    if len(rows) > 1:
        return show_many(answers)
    models = services.workspace.models()
    text = answers[0].predictions.texts[0].text
    scores = [
        ModelAnswers(answer.name, services.model_cache.score(look_up("model", answer.name, models), text))
        for answer in answers
    ]
    return show_one(answers, scores)
