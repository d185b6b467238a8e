"""Messages that appear over the page for some seconds."""

from html import escape

import gradio as gr


def warn(error: Exception) -> None:
    """Show the message of an error. It is escaped, as Gradio shows HTML there."""
    gr.Warning(escape(str(error)))
