"""Texts of users in Markdown."""

import pytest
from markdown_it import MarkdownIt

from hf_multitask.models.hub_card import build_model_card
from hf_multitask.models.hub_card_metadata import TrainingFacts
from hf_multitask.models.markdown import escape_markdown

TEXTS = [
    "a | b",
    "*bold* _emphasis_ __strong__ ~~gone~~",
    "`code` and \\ and \\|",
    "[text](http://evil.example) ![picture](x.png)",
    "<script>alert(1)</script> &lt; &amp;",
    "# heading #",
    "two\nlines\r\n\tand a tab",
    "$x$ http://evil.example www.evil.example",
    "topic_a_f1",
    "C#",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_shown_as_it_is(text):
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    (_, cell, _) = (token for token in markdown.parse(f"x {escape_markdown(text)}"))
    assert {token.type for token in cell.children} <= {"text", "text_special"}
    assert "".join(token.content for token in cell.children) == f"x {' '.join(text.split())}"


def test_names_with_underscores_stay_readable():
    assert escape_markdown("topic_a_f1") == "topic_a_f1"


def test_labels_and_file_names_cannot_add_markup_to_a_card(model):
    model.config.tasks[0].labels[0] = "a|b <img src=x> [l](http://e.example)\n# new"
    facts = TrainingFacts(sources={"train": ["*my*|file`.csv\n"]}, rows={"train": 1})
    text = build_model_card(model.config, training=facts, title="A <b>title</b>\n# other").text
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = [inner for token in markdown.parse(text) for inner in [token, *(token.children or [])]]
    assert not {token.type for token in tokens} & {"html_inline", "html_block", "link_open", "em_open"}
    headings = [token.content for i, token in enumerate(tokens) if tokens[i - 1].type == "heading_open"]
    assert headings[0].startswith("A \\<b>title")
    assert all("new" not in heading and "other" not in heading for heading in headings[1:])
