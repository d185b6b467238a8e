"""The part of the data tab that labels rows by hand: a label per text, or marks on its words."""

from collections.abc import Callable

import gradio as gr

from ..models.type_aliases import JsonObject
from .labelling import CHOICE, MARKS, LabelSheet, load_sheet, new_sheet, save_sheet, sheet_paths
from .markup import notice
from .services import Services
from .uploads import ReceivedFile, write_jsonl

ERRORS = (ValueError, OSError, ImportError)
KINDS = {"a label for each text": CHOICE, "marks on words, such as names and places": MARKS}
NO_FILE = "Drop a file above, or paste some lines, first: their texts are labeled here."


def build_label_view(
    page: gr.Blocks, services: Services, known: gr.State, saved: gr.State, train: gr.Button, outcome: gr.HTML
) -> None:
    """Build the components.

    Args:
        page: The page that contains them.
        services: Backend of the app.
        known: What the page knows about its file.
        saved: Name of the dataset that was saved last.
        train: Button that opens the train tab with it.
        outcome: Message about the saved dataset.
    """
    gr.Markdown(
        "Twenty rows are enough for a first try. Each label is saved at once: after a reload, choose the sheet again."
    )
    with gr.Row():
        kind = gr.Radio(list(KINDS), value=next(iter(KINDS)), label="What to label", elem_id="label-kind")
        names = gr.Textbox(
            label="Labels", info="Separated by commas, such as praise, complaint.", elem_id="label-names"
        )
        begin = gr.Button("Start with the rows of my file", size="sm", elem_id="start-labels")
    sheet_name = gr.Dropdown(
        list(sheet_paths(services.workspace)),
        value=None,
        label="Sheet",
        info="Or go on with one that was started before.",
        elem_id="label-sheet",
    )
    problem = gr.HTML(elem_id="label-problem")
    row = gr.State(0)
    with gr.Column(visible=False) as sheet_view:
        position = gr.HTML(elem_id="label-position")
        text = gr.HTML(elem_id="label-text")
        choice = gr.Radio(label="Label of this text", elem_id="label-choice")
        mark = gr.Radio(label="Label of the words that you tick", elem_id="label-mark")
        words = gr.CheckboxGroup(
            label="Words", info="Neighboring words with the same label are one name or place.", elem_id="label-words"
        )
        with gr.Row():
            back = gr.Button("Previous text", elem_id="label-back")
            none = gr.Button("Nothing to mark here", elem_id="label-none")
            following = gr.Button("Next text", variant="primary", elem_id="label-next")
        with gr.Row():
            use = gr.Button("Save the labeled rows", elem_id="save-labels")
            download = gr.DownloadButton("Download them as JSONL", elem_id="download-labels")
    shown = [sheet_name, sheet_view, row, position, text, choice, mark, words, none, download, problem]

    actions = _Actions(services, len(shown))
    private = {"api_visibility": "private", "show_progress": "hidden"}
    at_row = [sheet_name, row, mark]
    page.load(lambda: gr.Dropdown(list(sheet_paths(services.workspace))), outputs=sheet_name, **private)
    begin.click(actions.start, [known, kind, names], shown, **private)
    sheet_name.input(actions.open_sheet, sheet_name, shown, **private)
    gr.on([choice.input, words.input], actions.change, [sheet_name, row, mark, choice, words], shown, **private)
    mark.input(actions.move(0), at_row, shown, **private)
    back.click(actions.move(-1), at_row, shown, **private)
    following.click(actions.move(1), at_row, shown, **private)
    none.click(actions.nothing_here, at_row, shown, **private)
    use.click(actions.keep, sheet_name, [saved, outcome, train], **private)


class _Actions:
    """What the components do.

    Args:
        services: Backend of the app.
        num_shown: Number of the components that an action updates.
    """

    def __init__(self, services: Services, num_shown: int) -> None:
        self.services, self._num_shown = services, num_shown

    def show(self, sheet: LabelSheet, at: int, active: str | None = None) -> list[object]:
        """Return the updates that show a text of a sheet."""
        at = min(max(at, 0), len(sheet.texts) - 1)
        is_choice = sheet.kind == CHOICE
        active = active if active in sheet.labels else sheet.labels[0]
        value = sheet.values[at]
        return [
            gr.Dropdown(list(sheet_paths(self.services.workspace)), value=sheet.name),
            gr.Column(visible=True),
            at,
            notice(f"Text {at + 1} of {len(sheet.texts)}. Labeled: {sheet.labeled}."),
            notice(sheet.texts[at]),
            gr.Radio(sheet.labels, value=value if isinstance(value, str) else None, visible=is_choice),
            gr.Radio(sheet.labels, value=active, visible=not is_choice),
            _words_update(sheet, at, active),
            gr.Button(visible=not is_choice),
            gr.DownloadButton(value=_as_file(self.services, sheet), interactive=sheet.labeled > 0),
            "",
        ]

    def _failed(self, error: Exception) -> list[object]:
        return [*[gr.skip()] * (self._num_shown - 1), notice(str(error), "error")]

    def start(self, now: JsonObject, chosen: str, labels: str) -> list[object]:
        """Start a sheet with the texts of the file."""
        try:
            if now["path"] is None:
                raise ValueError(f"labels: {NO_FILE}")
            file = ReceivedFile.of_page(now)
            texts = self.services.texts(file)
            return self.show(new_sheet(self.services.workspace, file.path.name, texts, KINDS[chosen], labels), 0)
        except ERRORS as error:
            return self._failed(error)

    def open_sheet(self, name: str | None) -> list[object]:
        """Open a sheet at its first text without a label."""
        try:
            sheet = load_sheet(self.services.workspace, name)
        except ERRORS as error:
            return self._failed(error)
        return self.show(sheet, sheet.first_unlabeled())

    def change(
        self, name: str | None, at: int, active: str | None, label: str | None, ticked: list[str]
    ) -> list[object]:
        """Save the label of a text, or the marks on its words."""
        try:
            sheet = load_sheet(self.services.workspace, name)
            if sheet.kind == CHOICE:
                sheet.values[at] = label if label in sheet.labels else None
            elif active in sheet.labels:
                sheet.mark(at, str(active), [int(i) for i in ticked if int(i) < len(sheet.words(at))])
            save_sheet(self.services.workspace, sheet)
        except ERRORS as error:
            return self._failed(error)
        return self.show(sheet, at, active)

    def move(self, by: int) -> Callable:
        """Return the function that shows another text."""

        def step(name: str | None, at: int, active: str | None) -> list[object]:
            try:
                return self.show(load_sheet(self.services.workspace, name), at + by, active)
            except ERRORS as error:
                return self._failed(error)

        return step

    def nothing_here(self, name: str | None, at: int, active: str | None) -> list[object]:
        """Save that a text has no marks, and show the next."""
        try:
            sheet = load_sheet(self.services.workspace, name)
            sheet.values[at] = [None] * len(sheet.words(at))
            save_sheet(self.services.workspace, sheet)
        except ERRORS as error:
            return self._failed(error)
        return self.show(sheet, at + 1, active)

    def keep(self, name: str | None) -> list[object]:
        """Save the labeled rows as a dataset."""
        try:
            dataset = self.services.save_labels(load_sheet(self.services.workspace, name))
        except ERRORS as error:
            return [gr.skip(), notice(str(error), "error"), gr.skip()]
        return [dataset, notice(f"{dataset} is saved, and is offered in the Train tab."), gr.Button(interactive=True)]


def _as_file(services: Services, sheet: LabelSheet) -> str | None:
    """Write the labeled rows to a file for the browser."""
    if not sheet.labeled:
        return None
    path = services.workspace.received_dir / f"{sheet.name}.jsonl"
    write_jsonl(path, sheet.rows())
    return str(path)


def _words_update(sheet: LabelSheet, at: int, active: str) -> gr.CheckboxGroup:
    """Return the words of a text, ticked if they have the active label, with the name of another label behind them."""
    if sheet.kind == CHOICE:
        return gr.CheckboxGroup([], value=[], visible=False)
    marks = sheet.marks(at)
    choices = [
        (word if label in (None, active) else f"{word} ({label})", str(i))
        for i, (word, label) in enumerate(zip(sheet.words(at), marks, strict=True))
    ]
    return gr.CheckboxGroup(choices, value=[str(i) for i, label in enumerate(marks) if label == active], visible=True)
