"""The tab for own data: a file or pasted cells, what was understood of them, and the choices that change it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, TypeAlias

import gradio as gr

from ..data import SPLITS
from ..data.guessing import FileGuess
from ..data.guessing.columns import IGNORED, TEXT, TEXT_PAIR, TOKENS
from ..models.type_aliases import JsonObject
from ..runtime.byte_sizes import format_bytes
from .data_words import (
    DELIMITER_WORDS,
    ENCODING_WORDS,
    HEADER_WORDS,
    ROLE_WORDS,
    column_title,
    first_lines,
    preview,
    summary,
)
from .label_view import build_label_view
from .markup import notice
from .services import Services
from .train_form import TrainForm, fill_form
from .uploads import MAX_UPLOAD_BYTES, ReceivedFile

ERRORS = (ValueError, OSError, ImportError)
# Columns whose role can be changed; those after them are what was guessed.
MAX_COLUMNS = 24
FILE_HELP = (
    f"An Excel (.xlsx), CSV, TSV or JSONL file of at most {format_bytes(MAX_UPLOAD_BYTES)}, with a text and its "
    "labels in each row."
)
# What a page knows about its file: the path, the form and the roles of columns as far as they were chosen.
Known: TypeAlias = JsonObject
NOTHING: Known = {"path": None, "options": {}, "roles": {}}


class DataTab(NamedTuple):
    """Components that other tabs use.

    Args:
        saved: Name of the dataset that was saved last.
        train: Button that opens the train tab with it.
    """

    saved: gr.State
    train: gr.Button


class _Form(NamedTuple):
    """Components that show what was understood.

    Args:
        group: All of them.
        lines: First lines of a table.
        header: Whether line 1 is a header.
        delimiter: Delimiter of a table.
        encoding: Encoding of a text file.
        sheet: Sheet of an Excel file.
        preview: First rows.
        roles: Role of each column.
        summary: Numbers of rows and labels, problems by row.
        leave_out: Whether to leave out the rows that cannot be used.
    """

    group: gr.Column
    lines: gr.HTML
    header: gr.Radio
    delimiter: gr.Dropdown
    encoding: gr.Dropdown
    sheet: gr.Dropdown
    preview: gr.HTML
    roles: list[gr.Dropdown]
    summary: gr.HTML
    leave_out: gr.Checkbox

    def components(self) -> list[gr.components.Component]:
        """Return the components in the order of the updates of `_shown`."""
        return [*self[:7], *self.roles, *self[8:]]


def build_data_tab(page: gr.Blocks, services: Services) -> DataTab:
    """Build the tab.

    Args:
        page: The page that contains the tab.
        services: Backend of the app.
    """
    known, saved = gr.State(NOTHING), gr.State("")
    with gr.Row():
        with gr.Column():
            file = gr.File(label="Your file", height=150, elem_id="own-file")
            gr.Markdown(FILE_HELP)
        with gr.Column():
            pasted = gr.Textbox(
                label="Or paste from a spreadsheet",
                info="Mark the cells in the spreadsheet, with the names of the columns; copy; paste here.",
                lines=4,
                max_lines=8,
                elem_id="pasted",
            )
            read = gr.Button("Read what I pasted", size="sm", elem_id="read-pasted")
    problem = gr.HTML(elem_id="data-problem")
    form = _build_form()
    others = _build_others()
    with gr.Row():
        save = gr.Button("Save these rows", variant="primary", interactive=False, elem_id="save-data")
        train = gr.Button("Train with these rows", interactive=False, elem_id="train-data")
    outcome = gr.HTML(elem_id="data-outcome")
    with gr.Accordion("Label some rows by hand", open=False, elem_id="by-hand"):
        build_label_view(page, services, known, saved, train, outcome)
    outputs = [known, problem, *form.components(), save]

    def show(now: Known) -> list[object]:
        """Look at the file again, with what is known now."""
        if now["path"] is None:
            return [NOTHING, "", *_hidden(), gr.Button(interactive=False)]
        try:
            seen = services.look_at(ReceivedFile.of_page(now))
        except ERRORS as error:
            kept = Path(now["path"]).exists()
            # The choice that does not work can be changed, but a refused file is gone.
            shown = [gr.skip()] * len(form.components()) if kept else _hidden()
            return [now if kept else NOTHING, notice(str(error), "error"), *shown, gr.Button(interactive=False)]
        return [
            now,
            "",
            *_shown(seen.guess, summary(seen.guess, seen.report), bool(seen.report.problems)),
            gr.Button(interactive=True),
        ]

    def open_file(path: str | None) -> list[object]:
        return show({**NOTHING, "path": path})

    def paste(text: str) -> list[object]:
        try:
            path = str(services.receive_text(text))
        except ERRORS as error:
            return [NOTHING, notice(str(error), "error"), *_hidden(), gr.Button(interactive=False)]
        return open_file(path)

    def change_form(now: Known, header: str, delimiter: str, encoding: str, sheet: str) -> list[object]:
        options = {
            "header": next((value for value, words in HEADER_WORDS.items() if words == header), None),
            "delimiter": delimiter or None,
            "encoding": encoding or None,
            "sheet": sheet or None,
        }
        # Another form has other columns.
        return show({**now, "options": options, "roles": {}})

    def keep(now: Known, leave_out: bool, *paths: str | None) -> list[object]:
        try:
            if now["path"] is None:
                raise ValueError("upload: there is no file yet. Drop one above, or paste some rows.")
            name = services.save_data(ReceivedFile.of_page(now), dict(zip(SPLITS[1:], paths, strict=True)), leave_out)
        except ERRORS as error:
            return [gr.skip(), notice(str(error), "error"), *[gr.skip()] * (3 + len(others) + len(outputs))]
        words = notice(f"{name} is saved, and is offered in the Train tab.")
        cleared = [gr.UploadButton(label=_other_label(split), value=None) for split in SPLITS[1:]]
        return [name, words, gr.Button(interactive=True), None, "", *cleared, *show(NOTHING)]

    private = {"api_visibility": "private"}
    gr.on([file.upload, file.clear], open_file, file, outputs, **private)
    read.click(paste, pasted, outputs, **private)
    shape = [form.header, form.delimiter, form.encoding, form.sheet]
    gr.on([item.input for item in shape], change_form, [known, *shape], outputs, **private)
    for i, role in enumerate(form.roles):
        role.input(_change_role(services, show, i), [known, role], outputs, **private)
    kept = [saved, outcome, train, file, pasted, *others, *outputs]
    save.click(keep, [known, form.leave_out, *others], kept, **private)
    return DataTab(saved, train)


def connect_data_tab(services: Services, own: DataTab, tabs: gr.Tabs, train_tab: str, form: TrainForm) -> None:
    """Let the button of the tab open the train tab with the saved dataset.

    Args:
        services: Backend of the app.
        own: Components of the tab.
        tabs: The tabs.
        train_tab: Id of the train tab.
        form: Its form.
    """
    filled = [*form.inputs, *form.rows.components()]
    opened = own.train.click(
        lambda name: [gr.Tabs(selected=train_tab), *fill_form(services, name)],
        own.saved,
        [tabs, *filled],
        api_visibility="private",
    )
    opened.then(**form.planned)


def _other_label(split: str) -> str:
    return f"Choose a file with {split} rows"


def _build_others() -> list[gr.UploadButton]:
    """Build the choices of the files of validation and test."""
    with gr.Accordion("More files: validation and test", open=False):
        gr.Markdown(
            "Rows to check the model with. They need the same columns. Without them, a tenth of your rows, or a "
            "fifth of few, is set aside to find the best state of the model."
        )
        with gr.Row():
            # Not the larger field for a file, whose buttons all have the same name.
            buttons = [gr.UploadButton(_other_label(split), size="sm", elem_id=f"own-{split}") for split in SPLITS[1:]]
    for split, button in zip(SPLITS[1:], buttons, strict=True):
        button.upload(
            lambda path, split=split: gr.UploadButton(label=f"{split}: {Path(path).name}"),
            button,
            button,
            api_visibility="private",
        )
    return buttons


def _change_role(services: Services, show: Callable[[Known], list[object]], number: int) -> Callable:
    """Return the function that is called with another role of a column."""

    def change(now: Known, role: str) -> list[object]:
        try:
            columns = services.look_at(ReceivedFile.of_page(now)).guess.columns
        except (*ERRORS, TypeError):  # There is no file any more, which is shown.
            return show(now)
        roles = {column.name: column.role for column in columns}
        # There is one text: the column that was the text is not used any more.
        inputs = (TEXT, TOKENS) if role in (TEXT, TOKENS) else (TEXT_PAIR,) if role == TEXT_PAIR else ()
        roles = {name: IGNORED if old in inputs else old for name, old in roles.items()}
        return show({**now, "roles": {**roles, columns[number].name: role}})

    return change


def _build_form() -> _Form:
    with gr.Column(visible=False, elem_id="understood") as group:
        gr.HTML('<h2 class="part">What was understood</h2>')
        with gr.Row():
            header = gr.Radio(
                list(HEADER_WORDS.values()),
                label="Is line 1 a header?",
                info="A header names the columns, such as text and label.",
                elem_id="header",
            )
            delimiter = gr.Dropdown(
                [(words, value) for value, words in DELIMITER_WORDS.items()],
                label="Between the cells",
                info="The character that separates the columns.",
                elem_id="delimiter",
            )
            encoding = gr.Dropdown(
                [(words, value) for value, words in ENCODING_WORDS.items()],
                label="Encoding",
                info="Choose another if ä, é or € look wrong below.",
                elem_id="encoding",
            )
            sheet = gr.Dropdown(label="Sheet", info="The sheet of the file that has the rows.", elem_id="sheet")
        lines = gr.HTML(elem_id="first-lines")
        shown = gr.HTML(elem_id="preview")
        gr.HTML('<h2 class="part">What each column is</h2>')
        with gr.Row(elem_id="roles"):
            choices = [(words, role) for role, words in ROLE_WORDS.items()]
            roles = [
                gr.Dropdown(choices, label=f"column {i + 1}", min_width=220, elem_id=f"role-{i}")
                for i in range(MAX_COLUMNS)
            ]
        counts = gr.HTML(elem_id="row-report")
        leave_out = gr.Checkbox(
            label="Leave out the rows that cannot be used",
            info="The others are saved without them. Your file is not changed.",
            visible=False,
            elem_id="leave-out",
        )
    return _Form(group, lines, header, delimiter, encoding, sheet, shown, roles, counts, leave_out)


def _shown(guess: FileGuess, counts: str, has_problems: bool) -> list[object]:
    """Return the updates of the components of `_Form` that show a guess."""
    form, options = guess.form, asdict(guess.form.options)
    is_table = bool(form.first_lines)
    encodings = {options["encoding"]: options["encoding"], **ENCODING_WORDS}
    delimiters = {options["delimiter"]: options["delimiter"], **DELIMITER_WORDS}
    roles = [
        gr.Dropdown(label=column_title(guess.columns[i]), value=guess.columns[i].role, visible=True)
        if i < len(guess.columns)
        else gr.Dropdown(visible=False)
        for i in range(MAX_COLUMNS)
    ]
    return [
        gr.Column(visible=True),
        gr.HTML(first_lines(form), visible=is_table),
        gr.Radio(value=HEADER_WORDS[options["header"] is not False], visible=is_table),
        _choice(delimiters, options["delimiter"]),
        _choice(encodings, options["encoding"]),
        gr.Dropdown(form.sheets, value=options["sheet"], visible=len(form.sheets) > 1),
        preview(guess),
        *roles,
        counts,
        gr.Checkbox(visible=has_problems, value=False),
    ]


def _choice(words: Mapping[str | None, str], value: str | None) -> gr.Dropdown:
    """Return the update of a choice, which is hidden if the format leaves nothing open."""
    choices = [(text, key) for key, text in words.items() if key is not None]
    return gr.Dropdown(choices, value=value, visible=value is not None)


def _hidden() -> list[object]:
    unchanged = 6 + MAX_COLUMNS + 2
    return [gr.Column(visible=False), *[gr.skip()] * unchanged]
