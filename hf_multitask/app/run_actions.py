"""Buttons for a run: resume, try, download, rename and delete."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import gradio as gr

from .jobs import JobStatus
from .markup import notice
from .services import Services
from .toasts import warn

ERRORS = (ValueError, OSError)
# Presses the link of the hidden download button, so that one press packs and downloads.
DOWNLOAD = "() => document.querySelector('#packed-model a, a#packed-model, button#packed-model')?.click()"


class RunActions(NamedTuple):
    """Components of the buttons.

    Args:
        buttons: Resume, Try, Download, Rename and Delete, and the row that they are in.
        packed: Hidden button that downloads the zip file.
        rename_row: Field and buttons of a rename.
        new_name: The field.
        save_name: Button that renames.
        keep_name: Button that closes the row.
        delete_row: Question and buttons of a deletion.
        question: The question.
        asked: Name of the run that the question is about.
        really: Button that deletes.
        keep: Button that closes the row.
        problem: Message about the last action.
    """

    buttons: list[gr.Button]
    packed: gr.DownloadButton
    rename_row: gr.Group
    new_name: gr.Textbox
    save_name: gr.Button
    keep_name: gr.Button
    delete_row: gr.Group
    question: gr.HTML
    asked: gr.State
    really: gr.Button
    keep: gr.Button
    problem: gr.HTML

    @property
    def try_it(self) -> gr.Button:
        """Button that opens the model of the run in the try tab."""
        return self.buttons[1]


def build_run_actions() -> RunActions:
    """Build the buttons, hidden until there is a run."""
    with gr.Row(elem_classes="actions"):
        buttons = [
            gr.Button("Resume", size="sm", min_width=110, variant="primary", visible=False, elem_id="resume"),
            gr.Button("Try this model", size="sm", min_width=110, visible=False, elem_id="try-model"),
            gr.Button("Download model", size="sm", min_width=110, visible=False, elem_id="download-model"),
            gr.Button("Rename run", size="sm", min_width=110, visible=False, elem_id="rename-run"),
            gr.Button("Delete run", size="sm", min_width=110, visible=False, elem_id="delete-run"),
        ]
    packed = gr.DownloadButton("Download the zip file", elem_id="packed-model", elem_classes="unseen")
    with gr.Group(visible=False) as rename_row:
        new_name = gr.Textbox(label="New name", max_lines=1, max_length=60, elem_id="new-name")
        with gr.Row():
            save_name = gr.Button("Save name", size="sm", min_width=110, variant="primary", elem_id="save-name")
            keep_name = gr.Button("Keep the old name", size="sm", min_width=110, elem_id="keep-name")
    with gr.Group(visible=False) as delete_row:
        question, asked = gr.HTML(elem_id="delete-question"), gr.State()
        with gr.Row():
            really = gr.Button("Delete for good", size="sm", min_width=110, variant="stop", elem_id="delete-really")
            keep = gr.Button("Keep the run", size="sm", min_width=110, elem_id="delete-keep")
    problem = gr.HTML(elem_id="run-problem")
    renaming = (rename_row, new_name, save_name, keep_name)
    return RunActions(buttons, packed, *renaming, delete_row, question, asked, really, keep, problem)


def show_actions(job: JobStatus | None, has_model: bool, is_training: bool) -> list[gr.Button]:
    """Return the updates of the buttons.

    Args:
        job: State of the run, or None if there is no run.
        has_model: Whether the run has a model, or a checkpoint to use as one.
        is_training: Whether any run is training.
    """
    if job is None:
        return [gr.Button(visible=False)] * 5
    is_idle = not job.is_active
    return [
        gr.Button(visible=job.can_resume, interactive=not is_training),
        gr.Button(visible=has_model),
        gr.Button(visible=has_model and is_idle),
        gr.Button(visible=is_idle),
        gr.Button(visible=is_idle),
    ]


def connect_run_actions(
    services: Services,
    actions: RunActions,
    run: gr.Dropdown,
    refresh: Callable[[str | None], list[object]],
    outputs: Sequence[gr.components.Component],
) -> None:
    """Connect the buttons.

    Args:
        services: Backend of the app.
        actions: The components.
        run: The run that is shown.
        refresh: Function that returns the updates which show a run.
        outputs: The components that it updates.
    """
    resume, _, download, rename, delete = actions.buttons
    rows = [actions.rename_row, actions.delete_row]
    closed = [gr.Group(visible=False), gr.Group(visible=False)]

    def act(change: Callable[[], str | None], name: str | None) -> list[object]:
        """Change a run and show what came of it, or the problem and the run as it was."""
        try:
            return [*refresh(change()), "", *closed]
        except ERRORS as error:
            warn(error)
            return [*refresh(name), notice(str(error), "error"), *[gr.skip()] * len(rows)]

    def do_resume(name: str | None) -> list[object]:
        def change() -> str | None:
            services.jobs.resume(name)
            return name

        return act(change, name)

    def do_rename(name: str | None, new_name: str) -> list[object]:
        return act(lambda: services.jobs.rename(name, new_name), name)

    def do_delete(asked: str | None) -> list[object]:
        def change() -> None:
            services.jobs.delete(asked)

        return act(change, asked)

    def pack(name: str | None) -> tuple[object, str]:
        try:
            return gr.DownloadButton(value=str(services.pack_run(name))), ""
        except ERRORS as error:
            warn(error)
            return gr.skip(), notice(str(error), "error")

    def ask_name(name: str | None) -> list[object]:
        return [gr.Group(visible=True), gr.Group(visible=False), (name or "").rpartition("/")[2]]

    def ask_deletion(name: str | None) -> list[object]:
        text = f"Delete {name} with its model and its checkpoints? This can't be undone."
        return [gr.Group(visible=False), gr.Group(visible=True), notice(text, "warning"), name]

    private = {"api_visibility": "private", "show_progress": "hidden"}
    changed = [*outputs, actions.problem, *rows]
    resume.click(do_resume, run, changed, **private)
    rename.click(ask_name, run, [*rows, actions.new_name], **private)
    gr.on([actions.save_name.click, actions.new_name.submit], do_rename, [run, actions.new_name], changed, **private)
    delete.click(ask_deletion, run, [*rows, actions.question, actions.asked], **private)
    actions.really.click(do_delete, actions.asked, changed, **private)
    # Another run is shown: a question about the last one must not stay.
    gr.on([actions.keep.click, actions.keep_name.click, run.change], lambda: closed, outputs=rows, **private)
    packing = download.click(pack, run, [actions.packed, actions.problem], **private)
    packing.success(js=DOWNLOAD, **private)
