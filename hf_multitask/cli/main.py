"""The command line.

Each command parses its arguments, calls the library and prints the result. It imports the library in its body, so that
help and completion of the shell answer at once, without torch.
"""

import sys
from collections.abc import Sequence

import typer
from safetensors import SafetensorError

from . import comparison_commands, machine_commands, model_commands, probe_command, run_commands, serve_command
from .errors import print_error, usage_message
from .options import Version
from .program import INVALID, PROGRAM

# Mistakes in arguments. Typer exports only the class of wrong values.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="One encoder, several jobs: train, evaluate and use multi-task models.",
    epilog="With HF_MULTITASK_DEBUG=1 in the environment, an error shows its traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# In the order of the help.
for group in (run_commands, model_commands, serve_command, probe_command, comparison_commands, machine_commands):
    app.add_typer(group.commands)


@app.callback()
def program(version: Version = False) -> None:
    """One encoder, several jobs: train, evaluate and use multi-task models."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments. Defaults to the arguments of the process.

    Returns:
        The exit status: 0; 1 if a run has failed; 2 for invalid input, wrong usage or a missing extra; 130 if the user
        interrupted. With the environment variable ``HF_MULTITASK_DEBUG=1``, an error is printed with its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(given, standalone_mode=False, prog_name=PROGRAM)
    except _UsageError as error:
        if given:  # otherwise the help is printed already
            typer.echo(usage_message(error), err=True)
        return INVALID
    except (ValueError, OSError, ImportError, SafetensorError, RuntimeError) as error:
        return print_error(error)
    return result if isinstance(result, int) else 0
