"""A view that follows what is on disk: of several runs or studies, the newest or the one that was chosen."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from .services import Services

SECONDS_BETWEEN_REFRESHES = 1.0
WAIT = "{} is training. Only one training runs at a time: start another when it has finished."
# Events that leave the page as it is until their answer is there.
QUIET = {"api_visibility": "private", "show_progress": "hidden"}


class Drawing(NamedTuple):
    """Which names the charts of a view show, and whether they are drawn.

    Gradio gives colors to the names in a chart when it draws the chart anew, as it does if a title changes. It draws
    before it has the new points, so that names which have just come have no color, and their lines are invisible. The
    next refresh, which has the same names, changes the title, and thereby draws all of them.

    Args:
        names: Names of the curves.
        is_pending: Whether some of them have just come.
        is_repeated: Whether the charts were drawn once more since.
    """

    names: tuple[str, ...]
    is_pending: bool = False
    is_repeated: bool = False

    def next(self, names: tuple[str, ...]) -> "Drawing":
        """Return what the next refresh draws."""
        if names != self.names:
            return Drawing(names, is_pending=True)
        return Drawing(names, is_repeated=self.is_pending or self.is_repeated)

    def title(self, text: str) -> str:
        """Return a title of the charts, with a letter without width if they are drawn once more."""
        return text + "\u200b" * self.is_repeated


class Shown(NamedTuple):
    """What a view shows, by which the next refresh sees whether something has changed.

    Args:
        names: All names, the newest first.
        name: The name that is shown, or None if there is none.
        facts: What is shown of it.
        drawing: What its charts show.
    """

    names: list[str]
    name: str | None
    facts: tuple[object, ...]
    drawing: Drawing = Drawing(())


def name_to_show(names: Sequence[str], chosen: str | None, last: Shown | None) -> str | None:
    """Return the name to show, or None if there is none.

    Args:
        names: All names, the newest first.
        chosen: The name that was chosen, which may be gone.
        last: What was shown last, if that is known: a newer name than those is shown instead of the chosen one.
    """
    is_new = last is not None and bool(names) and names[0] not in last.names
    return chosen if chosen in names and not is_new else next(iter(names), None)


def name_in_training(services: Services) -> str | None:
    """Return the name of the run or study that is training, if any."""
    active = services.launcher.active()
    return None if active is None else services.launcher.name_of(active)


def follow(
    page: gr.Blocks,
    chosen: gr.Dropdown,
    refresh: Callable[[str | None, Shown | None], list[Any]],
    outputs: Sequence[gr.components.Component],
    last_shown: gr.State,
) -> None:
    """Refresh a view when the page is opened, when another name is chosen, and regularly.

    Args:
        page: The page.
        chosen: The name that is shown.
        refresh: Returns the updates of the view, for a name and for what was shown last, if that is known.
        outputs: The components of the view.
        last_shown: What was shown last.
    """

    def show(name: str | None) -> list[Any]:
        return refresh(name, None)

    def refresh_shown(last: Shown | None) -> list[Any]:
        # Not what the page has in its list: while a new run starts, that may still be the one before.
        return refresh(None if last is None else last.name, last)

    page.load(show, chosen, outputs, **QUIET)
    chosen.input(refresh, [chosen, last_shown], outputs, **QUIET)
    gr.Timer(SECONDS_BETWEEN_REFRESHES).tick(refresh_shown, last_shown, outputs, **QUIET)
