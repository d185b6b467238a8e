"""Sentences that readers have stumbled over do not come back, and what replaced them is said."""

import pytest

from tests.documents.blocks import ROOT

TEXTS = [
    path
    for folder, pattern in (("hf_multitask", "*.py"), ("docs", "*.md"), (".", "README.md"))
    for path in (ROOT / folder).rglob(pattern)
]
REPLACED = [
    ("is through. Its model can be tried", "has finished. Open the Try tab to use its model"),
    ("a schedule, or all but what is ticked", "What to train"),
    (
        "stops behind this step",
        "Stopping after this step and saving a checkpoint. Press Stop again to quit immediately",
    ),
    ("its tasks were guessed: look at them", "Please check the tasks"),
    ("Rules pull apart", "Two rules disagree: "),
    ("the same groups train", "everything trains"),
    ("cannot be told from it", "is not statistically significant"),
    ("Files given so are relative", "to the current folder"),
    ("What cannot hold is refused", "rejected before training"),
    ("are behind in the measure", None),
]


@pytest.fixture(scope="module")
def all_text():
    return "\n".join(" ".join(path.read_text(encoding="utf-8").split()) for path in TEXTS)


@pytest.mark.parametrize(("old", "new"), REPLACED, ids=[old for old, _ in REPLACED])
def test_a_sentence_is_replaced(old, new, all_text):
    assert old not in all_text
    assert new is None or new in all_text
