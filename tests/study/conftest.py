"""A config of a run on a tiny encoder, and a study of it that several tests look at."""

import pytest
import yaml

from hf_multitask.cli import main
from tests.study.studies import arguments
from tests.tiny import ROWS, save_tiny_encoder


@pytest.fixture(scope="session")
def config(tmp_path_factory, write_jsonl):
    """Write a config with its data and its encoder beside it."""
    folder = tmp_path_factory.mktemp("a study")
    save_tiny_encoder("bert", folder / "encoder")
    for split, rows in (("train", ROWS[:16]), ("validation", ROWS[:9]), ("test", ROWS[9:])):
        write_jsonl(rows, folder / f"{split}.jsonl")
    values = {
        "encoder": "encoder",
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "training": {"num_train_epochs": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "seed": 3},
        "output_dir": str(folder / "out"),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder / "config.yaml"


@pytest.fixture(scope="session")
def finished(config, tmp_path_factory):
    """Return the folder of a finished study."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    assert main(arguments(config, folder)) == 0
    return folder
