"""The packages that a report needs beside the library's own."""

import importlib.util

PACKAGES = ("matplotlib", "jinja2")
INSTALL = "pip install 'hf-multitask[reports]'"


def missing_packages() -> list[str]:
    """Return those of the packages that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def check_packages() -> None:
    """Check that a report can be made.

    Raises:
        ImportError: If a package is missing. The message says how to install it.
    """
    if missing := missing_packages():
        raise ImportError(f"a report needs {' and '.join(missing)}: {INSTALL}")
