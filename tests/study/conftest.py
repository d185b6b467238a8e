"""Config of a run on a tiny encoder, and a finished study that several tests read."""

import pytest

from hf_multitask.cli import main
from tests.study.studies import arguments
from tests.tiny import save_tiny_run


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """Write a config, with its data and its encoder in the same folder."""
    folder = tmp_path_factory.mktemp("a study")
    training = {
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "seed": 3,
        "eval_strategy": "epoch",
    }
    return save_tiny_run(folder, training, folder / "out")


@pytest.fixture(scope="session")
def finished(config, tmp_path_factory):
    """Return the folder of a finished study."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    assert main(arguments(config, folder)) == 0
    return folder
