"""The try tab: predictions of one or two models for a sentence, side by side."""

import gradio as gr

from ..quickstart import QUICKSTART_SENTENCE
from .markup import notice
from .model_cache import BARS_OF_LABELS, ENTITIES, TaskAnswer
from .services import Services
from .workspace import look_up

ERRORS = (ValueError, OSError, ImportError, RuntimeError)
NO_MODEL = "no second model"
NO_MODELS_YET = "There is no model yet: train one in the Train tab, or run make quickstart."


def build_try_tab(page: gr.Blocks, tab: gr.Tab, services: Services) -> None:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        tab: The tab, which looks for new models when it is opened.
        services: Backend of the app.
    """
    with gr.Row():
        first = gr.Dropdown(label="Model", elem_id="first-model")
        second = gr.Dropdown([NO_MODEL], value=NO_MODEL, label="Second model", elem_id="second-model")
    with gr.Row(equal_height=True):
        text = gr.Textbox(QUICKSTART_SENTENCE, label="Sentence", scale=6, elem_id="sentence")
        ask = gr.Button("Predict", variant="primary", scale=1, elem_id="ask")
    problem = gr.HTML(elem_id="answer-problem")
    answers = gr.State([])

    def find_models(first_name: str | None, second_name: str | None) -> list[object]:
        names = list(services.workspace.models())
        return [
            gr.Dropdown(choices=names, value=first_name if first_name in names else next(iter(names), None)),
            gr.Dropdown(choices=[NO_MODEL, *names], value=second_name if second_name in names else NO_MODEL),
        ]

    def predict(
        first_name: str | None, second_name: str | None, sentence: str
    ) -> tuple[str, list[tuple[str, list[TaskAnswer]]]]:
        if not first_name:
            return notice(NO_MODELS_YET), []
        columns, problems = [], []
        for name in [first_name] if second_name in (None, NO_MODEL) else [first_name, str(second_name)]:
            try:
                model = look_up("model", name, services.workspace.models())
                columns.append((name, services.model_cache.answer(model, sentence)))
            except ERRORS as error:
                problems.append(str(error))
        # Both models report the same error in the sentence; show it once.
        return "".join(notice(text, "error") for text in dict.fromkeys(problems)), columns

    predict_event = {"inputs": [first, second, text], "outputs": [problem, answers], "api_visibility": "private"}
    find_event = {"inputs": [first, second], "outputs": [first, second], "api_visibility": "private"}
    page.load(find_models, **find_event).then(predict, **predict_event)
    tab.select(find_models, **find_event)
    # A request during a prediction is run after it instead of dropped.
    gr.on([ask.click, text.submit, first.input, second.input], predict, **predict_event, trigger_mode="always_last")

    @gr.render(inputs=answers, triggers=[answers.change])
    def show(columns: list[tuple[str, list[TaskAnswer]]]) -> None:
        with gr.Row():
            for name, answer in columns:
                with gr.Column():
                    gr.Markdown(f"### {name}")
                    _show_answers(answer)


def _show_answers(answers: list[TaskAnswer]) -> None:
    for answer in answers:
        if answer.kind == ENTITIES:
            gr.HighlightedText(answer.value, label=answer.task, show_legend=True, elem_classes="answer")
        elif answer.kind == BARS_OF_LABELS:
            gr.Label(answer.value, label=answer.task, elem_classes="answer")
        else:
            words = ", ".join(f"{name} {value:.4g}" for name, value in answer.value.items())
            gr.Textbox(words, label=answer.task, interactive=False, elem_classes="answer")
