"""The config of docs/HEADS.md has the options that the page describes."""

import yaml

from hf_multitask import TaskConfig, load_tokenizer, prepare_datasets
from tests.documents.blocks import claim
from tests.tiny import ROWS

HEADS = claim("docs/HEADS.md", "yaml", "head: lstm")
CONSTRAINED = claim("docs/HEADS.md", "yaml", "constrained_by: intent")


def test_the_tasks_of_the_example():
    values = yaml.safe_load(HEADS.text)
    tasks = [TaskConfig.from_dict(task) for task in values["tasks"]]
    assert (tasks[1].head, tasks[1].mix_layers, tasks[1].crf) == ("lstm", True, True)
    assert values["training"] == {"ema_decay": 0.99}


def test_the_training_rows_say_which_types_a_label_has(encoder):
    tasks = [TaskConfig.from_dict(task) for task in yaml.safe_load(CONSTRAINED.text)["tasks"]]
    (_, slots) = prepare_datasets({"train": ROWS}, load_tokenizer(encoder), tasks).tasks
    places = {row["intent"]: set() for row in ROWS}
    for row in ROWS:
        places[row["intent"]] |= {tag[2:] for tag in row["slots"]} - {""}
    assert slots.types_by_label == {intent: sorted(types) for intent, types in places.items()}
    assert slots.types_by_label["RateBook"] == []
