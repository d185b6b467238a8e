"""The configs of docs/SHARING.md train, and log what the page says."""

import json

import pytest
import yaml

from hf_multitask import MultiTaskModel
from hf_multitask.cli import main
from hf_multitask.training.balancing_methods import METHODS
from tests.documents.blocks import ROOT, claim
from tests.tiny import save_tiny_run

COMPARED = claim("docs/SHARING.md", "yaml", "conflict_steps")
BALANCED = claim("docs/SHARING.md", "yaml", "method: dwa")
AGGREGATED = claim("docs/SHARING.md", "yaml", "torchjd")
PRIVATE = claim("docs/SHARING.md", "yaml", "private_layers")
READS_ALL_LAYERS = claim("docs/SHARING.md", "yaml", "mix_layers")


@pytest.mark.parametrize(
    ("block", "names"),
    [
        (COMPARED, {"conflict_intent_slots_encoder.0", "conflict_intent_slots_all", "gradient_share_intent_all"}),
        (BALANCED, {"loss_weight_intent", "loss_weight_slots"}),
        (AGGREGATED, {"intent_loss", "slots_loss"}),
    ],
    ids=["compared", "balanced", "aggregated"],
)
def test_a_run_logs_what_the_page_says(block, names, tmp_path):
    training = yaml.safe_load(block.text)["training"]
    if "conflict_steps" in training:
        assert training["conflict_steps"] == 50
        training["conflict_steps"] = 1  # of a run of few steps
    config = save_tiny_run(tmp_path, {**training, "num_train_epochs": 1}, tmp_path / "out")
    assert main(["train", str(config)]) == 0
    history = json.loads((tmp_path / "out" / "history.json").read_text())["history"]
    assert names <= {name for entry in history for name in entry}


def train_with_tasks_of(block, folder):
    config = save_tiny_run(folder, {"num_train_epochs": 1}, folder / "out")
    given = yaml.safe_load(block.text)["tasks"]
    tasks = [{**task, "column": "slots" if task["name"] == "ner" else "intent"} for task in given]
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "tasks": tasks}))
    assert main(["train", str(config)]) == 0
    return MultiTaskModel.from_pretrained(folder / "out")


def test_a_task_has_the_private_layers_that_the_page_gives_it(tmp_path):
    groups = [group.name for group in train_with_tasks_of(PRIVATE, tmp_path).layer_groups()]
    assert [name for name in groups if name.startswith("private.")] == ["private.ner.1", "private.ner.2"]


def test_a_task_has_the_head_that_the_page_gives_it(tmp_path):
    ner = train_with_tasks_of(READS_ALL_LAYERS, tmp_path).config.tasks[0]
    assert (ner.head, ner.mix_layers) == ("lstm", True)


def test_the_table_has_each_method():
    text = (ROOT / "docs" / "SHARING.md").read_text()
    assert all(f"| `{name}` |" in text for name in ["none", *METHODS])
