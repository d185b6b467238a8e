"""Reviews of a saved model on labeled rows, and of training rows by models that did not train on them."""

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskDataCollator, RunConfig, prepare_datasets, run_training
from hf_multitask.models import load_model
from hf_multitask.runs import review_rows, review_training_rows
from tests.tiny import ROWS


def config(encoder, folder, data, **values):
    return RunConfig.from_dict(
        {
            "encoder": str(encoder),
            "tasks": [
                {"name": "intent", "type": "sequence_classification"},
                {"name": "slots", "type": "token_classification"},
            ],
            "data": data,
            "training": {"num_train_epochs": 1, "learning_rate": 1e-3, "per_device_train_batch_size": 4},
            "output_dir": str(folder),
            **values,
        }
    )


class SeenRows(TrainerCallback):
    """Collects how many rows each training has."""

    def __init__(self):
        self.sizes = []

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        self.sizes.append(len(train_dataloader.dataset))


@pytest.fixture
def rows():
    # Each row can be recognized by its text.
    return [{**row, "tokens": [*row["tokens"], f"n{i}"], "slots": [*row["slots"], "O"]} for i, row in enumerate(ROWS)]


def test_training_rows_are_answered_once_in_their_order(encoder, tmp_path, rows):
    seen = SeenRows()
    data = {"train": rows, "validation": rows[:4], "test": rows[4:8]}
    review = review_training_rows(config(encoder, tmp_path / "out", data), 3, callbacks=[seen])
    assert not (tmp_path / "out").exists()
    assert sorted(seen.sizes) == [14, 15, 15]  # the rows of the other two folds, no validation rows
    intent, slots = review.tasks
    result = review.result
    assert [result.texts[i].text for i in range(len(rows))] == [" ".join(row["tokens"]) for row in rows]
    assert [intent.labels[i] for i in result.labels(intent)] == [row["intent"] for row in rows]
    for i, row in enumerate(rows):
        tags = [slots.labels[tag] for tag in result.labels(slots)[i] if tag >= 0]
        assert tags == row["slots"]
        assert ((result.given_scores(slots)[i][: len(tags)] >= 0) & (result.scores(slots)[i][: len(tags)] <= 1)).all()
    for issue in review.label_issues():
        assert 0 <= issue.quality <= 1


def test_the_folder_of_a_run_and_its_model_stay_as_they_are(encoder, tmp_path, rows):
    data = {"train": rows, "validation": rows[:4]}
    run_training(config(encoder, tmp_path, data))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    review_training_rows(config(encoder, tmp_path, data), 2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_saved_model_is_reviewed_on_rows_of_one_task(encoder, tmp_path, rows):
    metrics = run_training(config(encoder, tmp_path, {"train": rows, "validation": rows[:9]}))["validation"]
    review = review_rows(
        tmp_path, [{"tokens": row["tokens"], "intent": row["intent"]} for row in rows[:9]], tasks=["intent"]
    )
    assert [task.name for task in review.labeled_tasks] == ["intent"]
    assert len(review.mistakes()) == round(9 * (1 - metrics["intent_accuracy"])) > 0
    whole = review_rows(tmp_path, rows[:9])
    assert {mistake.task for mistake in whole.mistakes()} >= {"intent"}
    check_given_scores(tmp_path, whole, rows[:9])
    assert whole.write_mistakes(tmp_path / "review.json", "label_studio") == len(whole.mistakes())


def check_given_scores(folder, review, rows):
    """Compare the probabilities of the given labels with the model's own."""
    model, tokenizer = load_model(folder)
    data = prepare_datasets({"test": rows}, tokenizer, model.config.tasks)
    batch = MultiTaskDataCollator(tokenizer, model.config.tasks)([data["test"][i] for i in range(len(rows))])
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    for task in review.tasks:
        probabilities = (logits[task.name] / task.temperature).softmax(-1)
        expected = probabilities.gather(-1, labels[task.name].clamp(min=0).unsqueeze(-1)).squeeze(-1)
        is_labeled = labels[task.name] >= 0
        found = torch.tensor(review.result.given_scores(task))
        assert torch.allclose(found[is_labeled].float(), expected[is_labeled], atol=1e-5)
        assert not torch.allclose(expected[is_labeled], probabilities.max(-1).values[is_labeled], atol=1e-3)


def test_a_stream_is_refused_before_anything_is_trained(encoder, tmp_path, rows, write_jsonl):
    data = {"train": str(write_jsonl(rows)), "streaming": True}
    streamed = config(encoder, tmp_path / "out", data, training={"max_steps": 2})
    with pytest.raises(ValueError, match="leave out streaming"):
        review_training_rows(streamed)
    assert not (tmp_path / "out").exists()


def test_without_cleanlab_nothing_is_trained(encoder, tmp_path, rows, monkeypatch):
    monkeypatch.setattr("hf_multitask.runtime.extras.missing_packages", lambda extra: ["cleanlab"])
    with pytest.raises(ImportError, match="label-issues"):
        review_training_rows(config(encoder, tmp_path / "out", {"train": rows}))
    assert not (tmp_path / "out").exists()
