"""Sphinx configuration of the documentation site: pages in Markdown, API reference from the docstrings."""

from sphinx.application import Sphinx

import hf_multitask

project = "hf_multitask"
author = "The hf_multitask authors"
release = version = hf_multitask.__version__
# autodoc finds no name that the package only imports when it is asked for.
for name in hf_multitask.__all__:
    getattr(hf_multitask, name)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

# Pages. Anchors are those of the headings on the hub's and GitHub's pages, so that a link works in both places.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Reference. Each module of the reference lists its public names in __all__.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# `name` in a docstring links to the reference if it is part of it.
default_role = "py:obj"

# No font, script or style comes from elsewhere: the site is read offline.
html_theme = "furo"
html_title = f"hf_multitask {release}"
html_copy_source = False
html_show_sphinx = False


def link_to_readme(app: Sphinx, name: str, content: list[str]) -> None:
    """Link to the site's first page, which includes the README, where a page links to the README."""
    content[0] = content[0].replace("](../README.md", "](index.md")


def setup(app: Sphinx) -> None:
    """Connect the event of Sphinx."""
    app.connect("source-read", link_to_readme)
