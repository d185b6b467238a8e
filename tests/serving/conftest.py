"""A tiny model with every kind of head, and servers of it in processes of their own."""

import sys
from pathlib import Path

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from benchmarks.serving_processes import running_server

from tests.serving.http_client import Client

TASKS = [
    TaskConfig(
        "intent", "sequence_classification", labels=["a", "b", "c"], problem_type="single_label_classification"
    ),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]),
]


@pytest.fixture(scope="session")
def served_folder(encoders, tmp_path_factory):
    """Write a model with random heads whose scores differ, and return its folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("served")
    model = MultiTaskModel.from_encoder(encoders["bert"], TASKS)
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    load_tokenizer(encoders["bert"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def served_pipeline(served_folder):
    from transformers import pipeline

    return pipeline("multi-task", model=str(served_folder))


@pytest.fixture(scope="session")
def start(served_folder, tmp_path_factory):
    """Return a context that starts a server of the model with some options."""

    def start_server(*options, folder=served_folder):
        return running_server(folder, tmp_path_factory.mktemp("server") / "server.log", *options)

    return start_server


@pytest.fixture(scope="session")
def server(start):
    """Start the server that most tests ask, and check at its end that it has met no error of ours."""
    with start() as running:
        yield running
        assert 'status="500"' not in running.get("/metrics").decode()
    assert running.process.returncode == 0


@pytest.fixture
def client(server):
    with Client(server.port) as client:
        yield client
