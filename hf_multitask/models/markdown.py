"""Texts of users, such as labels and names of files, in Markdown."""

import re

# Characters that begin markup anywhere in a line.
_MARKUP = re.compile(r"([\\`*\[\]<|~$&#])")
# Underscores that can begin or end emphasis: those inside a word cannot.
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_ADDRESS = re.compile(r"\b(https?|ftp)://|\bwww\.", re.IGNORECASE)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line.

    Args:
        text: Any text. Line breaks and other runs of white space become a blank.
    """
    text = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    text = _EMPHASIS.sub(r"\\_", text)
    return _ADDRESS.sub(lambda match: match[0].replace(":", "\\:").replace(".", "\\."), text)
