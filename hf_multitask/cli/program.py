"""What all commands share: their class, how they read a config, and the exit statuses."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from ..runs import RunConfig

PROGRAM = "hf-multitask"
# Exit statuses: a run has failed, wrong usage or input, and what a shell reports for a process ended by SIGINT.
FAILED, INVALID, INTERRUPTED = 1, 2, 130
ANY_FIELD = {"allow_extra_args": True, "ignore_unknown_options": True}
OVERRIDES_HELP = (
    "Any field of the config can be overridden with an option after it: --encoder NAME, --data.train FILE, "
    "--freeze three-stage, --freeze '\\[encoder, head.intent]', --training.num_train_epochs 1. Files that a "
    "config names are relative to its folder; output_dir and paths on the command line, to the current folder."
)


class LibraryCommand(TyperCommand):
    """A command that uses the library: joins the processes that were started, and prints the library's messages."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from ..runtime.processes import join_processes
        from ..runtime.quiet import one_bar

        if join_processes().is_main_process:
            _show_progress_messages()
        with one_bar():
            return super().invoke(ctx)


def read_config(context: typer.Context, path: Path) -> "RunConfig":
    """Read a config, with the values that the options of the command replace."""
    from ..runs import RunConfig
    from .overrides import parse_overrides

    return RunConfig.from_file(path, parse_overrides(context.args, _flags(context)))


def _flags(context: typer.Context) -> list[str]:
    """Return the options that a command has itself."""
    return [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]


def _show_progress_messages() -> None:
    """Print the log messages of the library, such as changes of the freeze schedule."""
    from ..runtime.console_log import LineHandler

    package = logging.getLogger("hf_multitask")
    if not package.handlers:
        package.addHandler(LineHandler())
        package.setLevel(logging.INFO)
