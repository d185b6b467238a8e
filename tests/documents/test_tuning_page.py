"""docs/TUNING.md: its space and its Python run on a tiny encoder."""

from pathlib import Path

import optuna
import pytest

from hf_multitask import RunConfig
from hf_multitask.tuning.space import build_parameters, default_parameters, read_space
from tests.conftest import MINILM
from tests.documents.blocks import ROOT, claim, run_python, write_yaml
from tests.tiny import save_tiny_run

PAGE = "docs/TUNING.md"
SPACE = claim(PAGE, "yaml", "# space.yaml")
SEARCH = claim(PAGE, "python", "run_tuning(")
TRAINER = claim(PAGE, "python", "hyperparameter_search(")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    training = {"num_train_epochs": 1, "learning_rate": 1e-4, "head_learning_rate": 1e-3, "disable_tqdm": True}
    save_tiny_run(tmp_path, training, "out/run")
    return tmp_path


def test_the_space_of_the_page_is_one(folder):
    write_yaml(SPACE)
    parameters = build_parameters(
        RunConfig.from_file("config.yaml", {"tasks": tasks("linear")}), read_space("space.yaml")
    )
    assert [parameter.key for parameter in parameters][:2] == ["training.learning_rate", "training.num_train_epochs"]


def tasks(head):
    return [
        {"name": "intent", "type": "sequence_classification", "label_smoothing": 0.1},
        {"name": "slots", "type": "token_classification", "head": head, "label_smoothing": 0.1},
    ]


def test_the_page_lists_the_default_space(folder):
    page = Path(ROOT, PAGE).read_text(encoding="utf-8").partition("## The default space")[2].partition("\n## ")[0]
    config = RunConfig.from_file("config.yaml", {"tasks": tasks("linear")})
    for parameter in default_parameters(config):
        key = parameter.key.replace(".intent.", ".<name>.").replace(".slots.", ".<name>.")
        assert f"`{key}`" in page


@pytest.mark.slow
def test_the_search_of_the_page_runs(folder, capsys):
    run_python(SEARCH)
    assert "training.learning_rate" in capsys.readouterr().out


@pytest.mark.slow
def test_the_trainer_of_the_page_searches(folder, encoder, capsys):
    run_python(TRAINER, changes={MINILM: str(encoder)})
    assert "head_learning_rate" in capsys.readouterr().out
