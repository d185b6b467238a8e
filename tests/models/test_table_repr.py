"""What a prompt and a notebook show of the objects that a user meets."""

import re
from html.parser import HTMLParser

import pytest

from hf_multitask import FreezeSchedule, MultiTaskModel, TaskConfig, choose_settings, prepare_datasets
from hf_multitask.freezing.presets import build_schedule
from hf_multitask.models.table_repr import MAX_ROWS, ReprTable
from tests.tiny import ROWS

TASKS = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
# What a person reads at a glance.
MOST_CHARACTERS = 2000


class Cells(HTMLParser):
    """Collects the texts of the cells, and the tags."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def objects(encoder, tokenizer):
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:8]}, tokenizer, TASKS)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    schedule = build_schedule("three-stage", model.layer_groups(), 3)
    settings = choose_settings(data, model.config.encoder_config)
    return {"groups": model.layer_groups(), "model": model, "data": data, "schedule": schedule, "settings": settings}


@pytest.mark.parametrize("name", ["groups", "model", "data", "schedule", "settings"])
def test_objects_are_short_tables(name, objects):
    found = objects[name]
    text, html = repr(found), found._repr_html_()
    assert len(text) < MOST_CHARACTERS
    assert len(html) < 3 * MOST_CHARACTERS
    assert len(text.splitlines()) > 2
    cells = Cells(html)
    assert cells.tags.count("table") >= 1
    for word in ("head.intent",) if name in ("groups", "model") else ():
        assert word in text
        assert any(word in cell for cell in cells.texts)


def test_the_model_names_its_parts_and_what_trains(objects):
    model = objects["model"]
    for weight in model.heads["intent"].parameters():
        weight.requires_grad = False
    lines = {line.split()[0]: line for line in repr(model).splitlines()[2:]}
    assert re.search(r"token classification, \d+ labels +[\d,]+ +yes", lines["head.slots"])
    assert lines["head.intent"].endswith("no")
    assert f"{sum(weight.numel() for weight in model.encoder.parameters()):,}" in lines["encoder"]


def test_the_data_has_its_splits_and_tasks(objects):
    text = repr(objects["data"])
    assert re.search(rf"train +{len(ROWS)}\n", text)
    assert re.search(r"intent +sequence classification +\d: .*GetWeather", text)


def test_the_schedule_says_what_trains_and_how_long(objects):
    schedule = FreezeSchedule.from_dict(
        {"stages": [{"name": "heads", "train": "heads", "epochs": 1}, {"name": "all", "learning_rate": 1e-4}]}
    )
    assert [line.split("  ")[1] for line in repr(schedule).splitlines()[2:]] == ["heads", "all"]
    assert "1 epoch" in repr(schedule)
    assert "encoder 0.0001" in repr(schedule)


def test_layers_of_one_size_share_a_line(objects):
    groups = objects["groups"]
    assert re.search(r"encoder\.0-\d+ ", repr(groups))
    groups[1].parameters[next(iter(groups[1].parameters))].requires_grad = False
    assert len(str(groups).splitlines()) == len(groups) + 1, "str lists each"


def test_long_tables_and_cells_are_cut():
    table = ReprTable("t", ("a", "b"), [[str(i), "word " * 100] for i in range(MAX_ROWS + 5)])
    lines = table.to_text().splitlines()
    assert lines[-1].strip() == "… 5 more"
    assert max(map(len, lines)) < 100


def test_html_is_text():
    html = ReprTable("<b>", ("<i>",), [["<script>alert(1)</script>"]]).to_html()
    assert not {"b", "i", "script"} & set(Cells(html).tags)
    assert "<script>alert(1)</script>" in Cells(html).texts
