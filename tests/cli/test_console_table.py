"""Tables at 120, 80 and 60 columns: nothing that matters is cut off."""

import io
import re

import pytest
from rich.console import Console

from hf_multitask.cli import main
from hf_multitask.cli.console_table import fitting_widths, print_cells
from hf_multitask.cli.tuning import print_tuning
from hf_multitask.training.settings import choose_settings
from hf_multitask.tuning import TrialResult, TuningResult
from tests.tiny import save_tiny_run
from tests.training.test_settings import FACTS

HEADER = ["scenario", "intent_accuracy", "vs. everything", "slots_f1", "vs. everything", "mean of the tasks"]
ROWS = [
    ["everything-trains", "0.9421 ± 0.0021", "", "0.9310 ± 0.0120", "", "0.9366"],
    ["topic_and_intent-head-frozen", "0.9321 ± 0.0121", "-0.0100 [-0.02, 0.01]", "0.9", "-0.03 [-0.05, -0.01]*", "1"],
]
WIDTHS = (120, 80, 60)


@pytest.fixture(scope="module")
def run_config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return save_tiny_run(folder, {"num_train_epochs": 6}, folder / "out")


def printed(width, show):
    file = io.StringIO()
    show(Console(file=file, width=width))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in file.getvalue()
    return file.getvalue()


def words(text):
    return set(re.split(r"[\s│┃·:]+", text))


@pytest.mark.parametrize("width", [200, *WIDTHS, 30])
def test_each_word_of_each_cell_is_whole(width):
    text = printed(width, lambda console: print_cells(HEADER, ROWS, console, title="8 training rows"))
    assert words(" ".join([*HEADER, *ROWS[0], *ROWS[1]])) <= words(text)


def test_a_row_becomes_a_block_where_words_would_break():
    text = printed(60, lambda console: print_cells(HEADER, ROWS, console))
    assert text.splitlines()[:3] == [
        "scenario everything-trains",
        "  intent_accuracy: 0.9421 ± 0.0021",
        "  slots_f1: 0.9310 ± 0.0120",
    ]


def test_columns_share_what_is_left():
    header, rows = ["a", "b"], [["one two three four", "x"], ["one", "yy zz"]]
    assert fitting_widths(header, rows, 99) == [18, 5]
    assert fitting_widths(header, rows, 15) == [10, 5]
    assert fitting_widths(header, rows, 7) == [5, 2]
    assert fitting_widths(header, rows, 6) is None


def test_markup_in_cells_is_text():
    assert "[bold]x[/bold]" in printed(80, lambda console: print_cells(["[red]"], [["[bold]x[/bold]"]], console))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["plan", "inspect"])
def test_commands_fit(width, command, run_config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([command, str(run_config), "--freeze", "gradual"]) == 0
    written = capsys.readouterr().out
    # Texts of rows and paths are not wrapped, so that they can be copied.
    lines = [line for line in written.splitlines() if re.match("[│┃┏┡└]", line)]
    assert max(map(len, lines), default=0) <= width
    assert "…" not in "".join(lines)
    expected = {"plan": ("head.intent", "encoder.1", "optimizer"), "inspect": ("GetWeather", "BookRestaurant")}
    assert all(word in written for word in expected[command])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_search_fits(width, tmp_path):
    values = {"training.num_train_epochs": 3, "training.learning_rate": 5e-5, "tasks.intent.label_smoothing": 0.1}
    others = {"training.num_train_epochs": 5, "training.learning_rate": 1e-5, "tasks.intent.label_smoothing": 0.0}
    trials = [TrialResult(number, 0.5, False, 1.0, found) for number, found in enumerate((values, others))]
    scores = {"validation": {0: {"intent_accuracy": 0.5}}, "test": {0: {"intent_accuracy": 0.5}}}
    result = TuningResult(tmp_path, "intent_accuracy", True, values, trials, 0, {}, scores)
    text = printed(width, lambda console: print_tuning(result, console))
    assert set(values) <= words(text)


@pytest.mark.parametrize("width", WIDTHS)
def test_settings_fit(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = str(choose_settings(FACTS))
    assert max(map(len, text.splitlines())) <= width
    assert "training.learning_rate" in text
