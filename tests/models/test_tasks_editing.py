"""Adding, removing and renaming tasks of a trained model, and runs that continue from it."""

import json

import pytest
import torch
from torch import nn

from hf_multitask import (
    DataConfig,
    MultiTaskModel,
    RunConfig,
    TaskConfig,
    load_tokenizer,
    prepare_datasets,
    run_evaluation,
    run_training,
)
from hf_multitask.runs.training import run_plan
from tests.predictions import predict
from tests.tiny import ARCHITECTURES, ROWS, SENTENCES
from tests.trainers import make_trainer

LENGTH = TaskConfig("length", "sequence_classification", labels=["long", "short"])
ROWS_WITH_LENGTH = [{**row, "length": "long" if len(row["tokens"]) > 6 else "short"} for row in ROWS]


def logits_of(model, folder):
    batch = load_tokenizer(folder)(SENTENCES, padding=True, return_tensors="pt")
    return model.eval()(**batch).logits


def assert_equal_logits(found, expected, names=None):
    for name in names or expected:
        assert torch.equal(found[name], expected[name]), name


def assert_comes_back_from_disk(model, encoder, folder):
    expected = logits_of(model, encoder)
    model.save_pretrained(folder)
    loaded = MultiTaskModel.from_pretrained(folder)
    assert loaded.config.tasks == model.config.tasks
    found = logits_of(loaded, encoder)
    assert list(found) == [task.name for task in model.config.tasks]
    assert_equal_logits(found, expected)


def heads_of(model):
    return {name: value.clone() for name, value in model.heads.state_dict().items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_change_leaves_the_other_heads_and_comes_back_from_disk(architecture, encoders, data, tmp_path):
    encoder = encoders[architecture]
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    before = logits_of(model, encoder)

    model.add_task(LENGTH)
    assert list(model.heads) == ["intent", "slots", "length"]
    assert_equal_logits(logits_of(model, encoder), before)
    assert_comes_back_from_disk(model, encoder, tmp_path / "added")

    model.rename_task("intent", "purpose")
    assert torch.equal(logits_of(model, encoder)["purpose"], before["intent"])
    assert list(model.heads) == ["purpose", "slots", "length"]
    assert model.config.tasks[0].column == "intent"
    assert_comes_back_from_disk(model, encoder, tmp_path / "renamed")

    model.remove_task("length")
    assert list(logits_of(model, encoder)) == ["purpose", "slots"]
    assert torch.equal(logits_of(model, encoder)["slots"], before["slots"])
    assert_comes_back_from_disk(model, encoder, tmp_path / "removed")


def test_a_new_head_is_initialised_as_the_first_ones_were(encoder, data):
    model = MultiTaskModel.from_encoder(encoder, data.tasks, dtype=torch.bfloat16).eval()
    model.add_task(TaskConfig("length", "sequence_classification", labels=["a", "b"], dropout=0.3))
    head = model.heads["length"]
    assert 0 < head.classifier.weight.std() < 0.1
    assert not head.classifier.bias.any()
    assert head.classifier.weight.dtype == torch.bfloat16
    assert head.dropout.p == 0.3
    assert not head.training


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_training_a_new_task_on_a_frozen_encoder_leaves_the_old_ones_bit_equal(architecture, encoders, tmp_path):
    encoder = encoders[architecture]
    tokenizer = load_tokenizer(encoder)
    old = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
    data = prepare_datasets({"train": ROWS, "validation": ROWS}, tokenizer, old)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    make_trainer(model, data, tokenizer, tmp_path, None, num_train_epochs=1, learning_rate=1e-3).train()
    before = logits_of(model, encoder)

    # The rows that teach the new task have no labels of the old ones.
    rows = [{"tokens": row["tokens"], "length": row["length"]} for row in ROWS_WITH_LENGTH]
    model.add_task(LENGTH)
    fresh = logits_of(model, encoder)["length"]
    data = prepare_datasets(DataConfig(train=rows, validation=rows, tasks=["length"]), tokenizer, model.config.tasks)
    frozen = ["encoder", "head.intent", "head.slots"]
    trainer = make_trainer(model, data, tokenizer, tmp_path, frozen, num_train_epochs=20, learning_rate=1e-2)
    first = trainer.evaluate()
    trainer.train()

    assert_equal_logits(logits_of(model, encoder), before)
    assert not torch.equal(logits_of(model, encoder)["length"], fresh)
    assert trainer.evaluate()["eval_length_loss"] < first["eval_length_loss"]
    assert_comes_back_from_disk(model, encoder, tmp_path / "model")
    assert predict(model, tokenizer, ["play"])[0].keys() == {"intent", "slots", "length"}


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.add_task(LENGTH),
        lambda model: model.remove_task("slots"),
        lambda model: model.rename_task("slots", "places"),
    ],
)
def test_a_trainer_of_the_tasks_before_refuses_the_model(change, model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, None)
    change(model)
    for use in (trainer.train, trainer.evaluate):
        with pytest.raises(ValueError, match="tasks have changed since this trainer was built, from intent, slots to"):
            use()


def test_wrong_names_are_refused(model):
    before = heads_of(model)
    for change in (model.remove_task, model.export_task, lambda name: model.rename_task(name, "x")):
        with pytest.raises(ValueError, match=r"unknown task 'slot'. Did you mean 'slots'"):
            change("slot")
    with pytest.raises(ValueError, match="already has a task 'slots'; found intent, slots"):
        model.add_task(TaskConfig("slots", "sequence_classification", labels=["a", "b"]))
    for name in ("slots", "intent"):
        with pytest.raises(ValueError, match=f"already has a task '{name}'"):
            model.rename_task("intent", name)
    with pytest.raises(ValueError, match="task name '2nd': expected letters"):
        model.rename_task("intent", "2nd")
    with pytest.raises(ValueError, match="task name 'joint' is reserved"):
        model.rename_task("intent", "joint")
    model.remove_task("slots")
    with pytest.raises(ValueError, match="task 'intent' is the model's only one"):
        model.remove_task("intent")
    for name, value in heads_of(model).items():
        assert torch.equal(value, before[name])


def test_a_task_that_does_not_fit_is_refused_and_changes_nothing(model):
    with pytest.raises(ValueError, match="task 'length' has no labels yet"):
        model.add_task(TaskConfig("length", "sequence_classification"))
    last = TaskConfig("pos", "token_classification", labels=["O"], label_subword="last")
    with pytest.raises(ValueError, match=r"'pos': label_subword is 'last', but the model's 'slots' reads the first"):
        model.add_task(last)
    assert [task.name for task in model.config.tasks] == list(model.heads) == ["intent", "slots"]
    model.remove_task("slots")
    model.add_task(last)


def test_an_encoder_that_is_a_multi_task_model_is_refused_by_from_encoder(model, data, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="expected an encoder, found a multi-task model; load it with from_pretrained"
    ):
        MultiTaskModel.from_encoder(tmp_path, data.tasks)


@pytest.fixture
def trained(model, tokenizer, tmp_path):
    """Return the folder of a model whose heads differ from any initial ones."""
    for head in model.heads.values():
        nn.init.normal_(head.classifier.weight)
    model.save_pretrained(tmp_path / "trained")
    tokenizer.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


@pytest.fixture
def values(trained, write_jsonl, tmp_path):
    files = {
        split: str(write_jsonl(rows)) for split, rows in (("train", ROWS_WITH_LENGTH), ("test", ROWS_WITH_LENGTH[:9]))
    }
    return {
        "encoder": str(trained),
        "tasks": [
            {"name": "length", "type": "sequence_classification"},
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification", "dropout": 0.2},
        ],
        "data": files,
        "freeze": ["encoder", "head.intent", "head.slots"],
        "training": {"num_train_epochs": 2, "learning_rate": 1e-2},
        "output_dir": str(tmp_path / "out"),
    }


def run(values):
    run_training(RunConfig.from_dict(values))
    return MultiTaskModel.from_pretrained(values["output_dir"])


def test_a_run_from_a_multi_task_model_keeps_its_heads_and_adds_the_new_ones(values, trained, encoder):
    before = MultiTaskModel.from_pretrained(trained)
    after = run(values)
    assert list(after.heads) == ["length", "intent", "slots"]
    assert_equal_logits(logits_of(after, encoder), logits_of(before, encoder))
    assert after.heads["slots"].dropout.p == 0.2
    metrics = json.loads((trained.parent / "out" / "metrics.json").read_text())["test"]
    assert {"intent_accuracy", "slots_f1"} <= metrics.keys()


def test_the_old_labels_stay_where_the_new_rows_have_only_some(values, trained, write_jsonl):
    values["data"]["train"] = str(write_jsonl([row for row in ROWS_WITH_LENGTH if row["intent"] == "GetWeather"]))
    values["data"].pop("test")
    assert run(values).config.tasks[1].labels == MultiTaskModel.from_pretrained(trained).config.tasks[0].labels


def test_rows_of_the_new_task_alone_are_enough(values, trained, encoder, write_jsonl):
    rows = [{"tokens": row["tokens"], "length": row["length"]} for row in ROWS_WITH_LENGTH]
    values["data"] = {split: str(write_jsonl(rows)) for split in ("train", "validation")} | {"tasks": ["length"]}
    after = run(values)
    before = logits_of(MultiTaskModel.from_pretrained(trained), encoder)
    assert_equal_logits(logits_of(after, encoder), before, ["intent", "slots"])
    metrics = json.loads((trained.parent / "out" / "metrics.json").read_text())["validation"]
    assert metrics["length_accuracy"] > 0.5
    assert "intent_accuracy" not in metrics
    values["tasks"].append({"name": "other", "type": "sequence_classification", "labels": ["a", "b"]})
    with pytest.raises(ValueError, match="no dataset has the task 'other'"):
        run({**values, "output_dir": str(trained.parent / "other")})


def test_a_task_that_is_not_named_is_left_out_and_said(values, caplog):
    values["tasks"] = values["tasks"][:2]
    values["freeze"] = "none"
    assert list(run(values).heads) == ["length", "intent"]
    assert "its tasks slots are not in `tasks` and left out" in caplog.text


def test_a_plan_of_such_a_run(values):
    (stage,) = run_plan(RunConfig.from_dict(values))
    assert stage.trained_groups == ["head.length"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["BookRestaurant", "Fly"]}, r"it lacks GetWeather, .*; the model has no Fly. Leave it out"),
        (
            {"labels": ["RateBook", "PlayMusic", "GetWeather", "BookRestaurant"]},
            "labels are not those of the trained model: they are in another order",
        ),
        ({"type": "token_classification"}, "type is 'token_classification', but 'sequence_classification'"),
        ({"problem_type": "regression"}, "problem_type is 'regression', but 'single_label_classification'"),
    ],
)
def test_a_task_that_disagrees_with_the_trained_head_is_refused(change, message, values, tmp_path):
    values["tasks"][1].update(change)
    with pytest.raises(ValueError, match=f"task 'intent': .*{message}"):
        run(values)
    assert not (tmp_path / "out").exists()


def test_labels_in_the_rows_that_the_trained_head_does_not_have_are_refused(values, write_jsonl):
    values["data"]["train"] = str(write_jsonl([{**ROWS_WITH_LENGTH[0], "intent": "Fly"}, *ROWS_WITH_LENGTH]))
    with pytest.raises(ValueError, match="task 'intent' does not know the labels 'Fly'"):
        run(values)


def test_another_pooling_or_subword_than_the_trained_heads_is_refused(values):
    with pytest.raises(ValueError, match=r"pooling is 'cls', but .* trained with 'mean'"):
        run({**values, "pooling": "cls"})
    values["data"]["label_subwords"] = "last"
    with pytest.raises(ValueError, match="label_subword is 'last', but the model's 'slots' reads the first"):
        run(values)


def test_rows_without_labels_of_some_tasks_score_the_others(trained):
    rows = [{"tokens": row["tokens"], "intent": row["intent"]} for row in ROWS]
    with pytest.raises(ValueError, match="unknown column 'slots'"):
        run_evaluation(trained, rows)
    metrics = run_evaluation(trained, rows, tasks=["intent"])
    assert "intent_accuracy" in metrics
    assert not [name for name in metrics if name.startswith("slots")]
