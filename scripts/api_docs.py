"""Write the API reference: HTML, from the docstrings of what is public. ``python scripts/api_docs.py build/docs``."""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pdoc

import hf_multitask

# Commands say themselves what they take: hf-multitask COMMAND --help.
LEFT_OUT = ("cli",)


def public_objects() -> dict[str, dict[str, Any]]:
    """Import what is public: by module, the names of its ``__all__`` and what they stand for."""
    packages = [module.name for module in pkgutil.iter_modules(hf_multitask.__path__) if module.ispkg]
    names = [hf_multitask.__name__, *(f"{hf_multitask.__name__}.{name}" for name in packages if name not in LEFT_OUT)]
    modules = [import_module(name) for name in names]
    return {module.__name__: {name: getattr(module, name) for name in module.__all__} for module in modules}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the reference.

    Args:
        argv: The arguments, those of the process where None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to write to")
    folder = parser.parse_args(argv).folder
    # With all names imported: pdoc finds none that a module only imports when it is asked for.
    modules = public_objects()
    pdoc.render.configure(docformat="google", include_undocumented=False, show_source=False)
    pdoc.pdoc(*modules, output_directory=folder)
    print(f"{len(modules)} modules written to {folder / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
