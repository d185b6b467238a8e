"""The config of docs/HEADS.md has the options that the page describes."""

import yaml

from hf_multitask import TaskConfig
from tests.documents.blocks import claim

HEADS = claim("docs/HEADS.md", "yaml", "head: lstm")


def test_the_tasks_of_the_example():
    values = yaml.safe_load(HEADS.text)
    tasks = [TaskConfig.from_dict(task) for task in values["tasks"]]
    assert (tasks[1].head, tasks[1].mix_layers, tasks[1].crf) == ("lstm", True, True)
    assert values["training"] == {"ema_decay": 0.99}
