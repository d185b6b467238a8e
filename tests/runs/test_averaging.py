"""Averages of weights: the mean, the greedy choice, the folder that is written, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from hf_multitask import MultiTaskModel, TaskConfig, average_models, load_tokenizer
from hf_multitask.cli import main
from hf_multitask.models import load_model
from hf_multitask.runs.averaging import first_difference
from hf_multitask.runs.evaluation import evaluate_model
from tests.tiny import INTENTS, ROWS

TASKS = [
    TaskConfig(
        "intent",
        "sequence_classification",
        labels=sorted(set(INTENTS)),
        problem_type="single_label_classification",
    ),
    TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place"]),
]


def save_model(encoder, folder, tasks=TASKS, seed=0, **options):
    """Save a model with heads of its seed; return its folder as text."""
    torch.manual_seed(seed)
    model = MultiTaskModel.from_encoder(encoder, tasks, **options)
    for head in model.heads.values():
        nn.init.normal_(head.classifier.weight, std=0.5)
    model.save_pretrained(folder)
    load_tokenizer(encoder).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folders(encoder, tmp_path):
    return [save_model(encoder, tmp_path / f"seed-{seed}", seed=seed) for seed in range(3)]


def accuracy(folder, rows=ROWS):
    return evaluate_model(*load_model(folder), rows)["joint_accuracy"]


def test_each_weight_is_the_mean(folders, tmp_path):
    result = average_models(folders, tmp_path / "average")
    expected = [dict(MultiTaskModel.from_pretrained(folder).named_parameters()) for folder in folders]
    found = dict(MultiTaskModel.from_pretrained(tmp_path / "average").named_parameters())
    assert found.keys() == expected[0].keys()
    for name, weight in found.items():
        assert torch.allclose(weight, sum(weights[name] for weights in expected) / 3, atol=1e-7), name
    assert [(item.name, item.is_used, item.score) for item in result.ingredients] == [
        (folder, True, None) for folder in folders
    ]
    assert result.metrics == {}


def test_the_folder_is_complete_and_its_card_lists_the_ingredients(folders, tmp_path):
    result = average_models(folders[:2], tmp_path / "average", ROWS)
    metrics = json.loads((tmp_path / "average" / "metrics.json").read_text())
    assert metrics == {"validation": result.metrics}
    assert accuracy(tmp_path / "average") == result.metrics["joint_accuracy"]
    card = (tmp_path / "average" / "README.md").read_text()
    for item, folder in zip(result.ingredients, folders, strict=False):
        assert item.score == ("joint_accuracy", accuracy(folder))
        assert f"| {folder.split('/')[-1]} | yes | {item.score[1]:.4f} |" in card
    assert folders[0] not in card
    assert "Wortsman et al. 2022" in card


def test_the_greedy_average_leaves_out_what_makes_it_worse(folders, encoder, tmp_path):
    # The best model predicts the commonest intent, the worst the rarest.
    for folder, label, scale in zip(folders, ["PlayMusic", "PlayMusic", "RateBook"], [1.0, 2.0, 50.0], strict=True):
        model, _ = load_model(folder)
        for head in model.heads.values():
            nn.init.zeros_(head.classifier.weight)
        with torch.no_grad():
            model.heads["intent"].classifier.bias.zero_()[TASKS[0].label2id[label]] = scale
        model.save_pretrained(folder)
    rows = [{**row, "slots": ["O"] * len(row["tokens"])} for row in ROWS]
    result = average_models([folders[2], *folders[:2]], tmp_path / "greedy", rows, greedy=True)
    assert {item.name: item.is_used for item in result.ingredients} == {
        folders[0]: True,
        folders[1]: True,
        folders[2]: False,
    }
    assert result.metrics["joint_accuracy"] == accuracy(folders[0], rows) > accuracy(folders[2], rows)
    bias = MultiTaskModel.from_pretrained(tmp_path / "greedy").heads["intent"].classifier.bias
    assert bias[TASKS[0].label2id["PlayMusic"]].item() == 1.5
    uniform = average_models(folders, tmp_path / "uniform", rows)
    assert uniform.metrics["joint_accuracy"] < result.metrics["joint_accuracy"]


def test_models_of_regressions_are_chosen_by_their_loss(encoder, tmp_path):
    tasks = [TaskConfig("grade", "sequence_classification", problem_type="regression")]
    folders = [save_model(encoder, tmp_path / str(seed), tasks, seed) for seed in range(2)]
    rows = [{"text": " ".join(row["tokens"]), "grade": 0.5} for row in ROWS]
    result = average_models(folders, tmp_path / "average", rows, greedy=True)
    assert [item.score[0] for item in result.ingredients] == ["loss", "loss"]
    assert result.ingredients[0].score[1] <= result.ingredients[1].score[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tasks: tasks[:1], r"tasks\.slots: \{.*\} and None"),
        (lambda tasks: [tasks[0], replace(tasks[1], labels=["O", "B-time", "I-time"])], r"tasks\.slots\.labels\.1: "),
        (lambda tasks: [tasks[0], replace(tasks[1], head="lstm")], r"tasks\.slots\.head: 'linear' and 'lstm'"),
    ],
)
def test_models_of_other_tasks_are_refused_with_the_difference(change, message, encoder, tmp_path):
    first = save_model(encoder, tmp_path / "first")
    second = save_model(encoder, tmp_path / "second", change(TASKS))
    with pytest.raises(ValueError, match=f"second' cannot be averaged with .*first'; they differ in {message}"):
        average_models([first, second], tmp_path / "average")
    assert not (tmp_path / "average").exists()


def test_padding_of_the_last_call_is_no_difference(encoder, tmp_path):
    first, second = (save_model(encoder, tmp_path / name) for name in ("first", "second"))
    tokenizer = load_tokenizer(second)
    tokenizer(["a b", "a"], padding="max_length", max_length=7, truncation=True)
    tokenizer.save_pretrained(second)
    average_models([first, second], tmp_path / "average")
    assert (tmp_path / "average").exists()


def test_models_of_other_encoders_and_poolings_are_refused(encoders, encoder, tmp_path):
    first = save_model(encoder, tmp_path / "first")
    with pytest.raises(ValueError, match="differ in pooling: 'mean' and 'cls'"):
        average_models([first, save_model(encoder, tmp_path / "cls", pooling="cls")], tmp_path / "average")
    with pytest.raises(ValueError, match=r"differ in encoder_config\."):
        average_models([first, save_model(encoders["roberta"], tmp_path / "roberta")], tmp_path / "average")
    other = save_model(encoder, tmp_path / "other")
    load_tokenizer(encoders["distilbert"]).train_new_from_iterator(["a b"], 50).save_pretrained(other)
    with pytest.raises(ValueError, match="differ in the tokenizers"):
        average_models([first, other], tmp_path / "average")


def test_what_cannot_be_averaged_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match=r"expected at least two models, found .*seed-0"):
        average_models(folders[:1], tmp_path / "average")
    with pytest.raises(ValueError, match="greedy adds models by their scores on validation rows; give data"):
        average_models(folders, tmp_path / "average", greedy=True)
    average_models(folders, tmp_path / "average")
    with pytest.raises(FileExistsError, match="already contains a model"):
        average_models(folders, tmp_path / "average")
    average_models(folders[:2], tmp_path / "average", overwrite=True)


def test_the_command_prints_the_models_and_the_scores(folders, tmp_path, capsys):
    data = tmp_path / "validation.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert main(["average", str(tmp_path / "average"), *folders[:2], "--data", str(data), "--greedy"]) == 0
    printed = capsys.readouterr().out
    assert "joint_accuracy" in printed
    assert "part of the average" in printed
    assert main(["average", str(tmp_path / "average"), *folders[:2]]) == 2


def test_the_first_difference_of_nested_values_is_named():
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) is None
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a.1.b: 2 and 3"
    assert first_difference({"a": 1}, {"a": 1, "c": 2}) == "c: None and 2"
