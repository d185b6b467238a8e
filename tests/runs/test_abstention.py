"""A run whose task abstains: rows out of scope in validation and test, and the answers of the model."""

import json

import pyarrow.parquet
import pytest
from transformers import pipeline

from hf_multitask import RunConfig, run_evaluation, run_training
from hf_multitask.cli import main
from hf_multitask.export import export_onnx
from hf_multitask.models import load_model
from tests.tiny import ROWS

ROWS = [{"text": " ".join(row["tokens"]), "intent": row["intent"]} for row in ROWS]
STRANGE = [{"text": text, "intent": "oos"} for text in ("são", "?", "miles stars", "out of", "the old this it's")]


@pytest.fixture
def values(encoder, write_jsonl, tmp_path):
    return {
        "encoder": str(encoder),
        "tasks": [
            {
                "name": "intent",
                "type": "sequence_classification",
                "abstain": {"method": "energy", "false_rejections": 0.2},
                "out_of_scope": "oos",
            }
        ],
        "data": {"train": str(write_jsonl([*ROWS, *STRANGE])), "validation": str(write_jsonl([*ROWS, *STRANGE]))},
        "training": {"num_train_epochs": 20, "learning_rate": 3e-3, "per_device_train_batch_size": 8},
        "output_dir": str(tmp_path / "out"),
    }


@pytest.mark.parametrize("method", ["energy", "mahalanobis", "knn"])
def test_rows_out_of_scope_are_no_label_of_the_model_and_are_rejected(method, values, tmp_path, write_jsonl):
    values["tasks"][0]["abstain"] = {"method": method, "false_rejections": 0.2, "neighbors": 1}
    values["tasks"][0]["outlier_weight"] = 0.0
    metrics = run_training(RunConfig.from_dict(values))["validation"]
    out = tmp_path / "out"
    (task,) = load_model(out)[0].config.tasks
    assert "oos" not in task.labels
    assert task.abstention.threshold is not None
    assert metrics["intent_scope_recall"] - metrics["intent_false_rejections"] > 0.3
    assert {f"intent_scope_{name}" for name in ("precision", "auroc", "auprc")} <= metrics.keys()
    support = json.loads((out / "metrics.json").read_text())["validation"]["support"]
    assert support == {"intent": {"rows": len(ROWS)}}
    assert "is out of scope; it rejects" in (out / "train.log").read_text()
    # A file is predicted as texts are, by the graph too.
    export_onnx(out)
    texts = [row["text"] for row in [*ROWS, *STRANGE]]
    answers = pipeline("multi-task", model=str(out))(texts)
    graph = pipeline("multi-task", model=str(out), backend="onnx")(texts)
    for row, other in zip(answers, graph, strict=True):
        assert other["intent"]["label"] == row["intent"]["label"]
        assert other["intent"]["in_scope"] == pytest.approx(row["intent"]["in_scope"], abs=1e-4)
    rejected = [row["intent"]["label"] == "oos" for row in answers]
    assert rejected == [row["intent"]["in_scope"] < 0.5 for row in answers]
    assert sum(rejected[: len(ROWS)]) / len(ROWS) == pytest.approx(metrics["intent_false_rejections"])
    files = {suffix: tmp_path / f"found{suffix}" for suffix in (".jsonl", ".csv", ".parquet")}
    source = str(write_jsonl([{"text": text} for text in texts]))
    for path in files.values():
        assert main(["predict", str(out), source, "--output", str(path)]) == 0
    found = [json.loads(line)["intent"]["label"] for line in files[".jsonl"].read_text().splitlines()]
    assert found == [row["intent"]["label"] for row in answers]
    header = files[".csv"].read_text().splitlines()[0].split(",")
    assert header == ["intent", "intent_score", "intent_best_label", "intent_in_scope"]
    table = pyarrow.parquet.read_table(files[".parquet"]).to_pylist()
    assert [row["intent"]["best_label"] for row in table] == [row["intent"]["best_label"] for row in answers]
    scores = run_evaluation(out, values["data"]["validation"])
    assert scores["intent_scope_recall"] == metrics["intent_scope_recall"]


def test_rows_out_of_scope_of_train_get_less_sure_answers(values, tmp_path, write_jsonl):
    texts = [row["text"] for row in STRANGE]
    outside = str(write_jsonl([{"text": text} for text in texts]))
    task = {**values["tasks"][0], "abstain": {"method": "max_softmax"}}
    del task["out_of_scope"]
    data = {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS)), "out_of_scope": outside}
    found = {}
    for weight in (0.0, 2.0):
        folder = tmp_path / f"out{weight:g}"
        changes = {"tasks": [{**task, "outlier_weight": weight}], "data": data, "output_dir": str(folder)}
        run_training(RunConfig.from_dict({**values, **changes, "calibrate": False}))
        answers = pipeline("multi-task", model=str(folder))(texts)
        found[weight] = sum(row["intent"]["score"] for row in answers) / len(answers)
    assert found[2.0] < found[0.0] - 0.05
    log = (tmp_path / "out2" / "train.log").read_text()
    assert f"{len(STRANGE)} rows are out of scope of task 'intent', with a loss of weight 2." in log
    # The same file is given to commands.
    validation, report = str(write_jsonl(ROWS)), tmp_path / "scores.json"
    command = [str(tmp_path / "out2"), validation, "--out-of-scope", outside]
    assert main(["calibrate", *command]) == 0
    assert main(["evaluate", *command, "--output", str(report)]) == 0
    assert json.loads(report.read_text())["intent_scope_recall"] > 0.5


def test_distances_need_the_rows_of_train(values):
    values["tasks"][0] |= {"abstain": {"method": "knn"}, "labels": ["a", "b"]}
    values["data"]["streaming"] = True
    with pytest.raises(ValueError, match=r"distances to training texts need all rows of train: leave out streaming"):
        run_training(RunConfig.from_dict({**values, "training": {"max_steps": 1}}))


def test_without_marked_rows_the_share_of_rejections_decides(values, tmp_path, write_jsonl):
    del values["tasks"][0]["out_of_scope"]
    values["data"] = {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS))}
    metrics = run_training(RunConfig.from_dict({**values, "calibrate": False}))["validation"]
    assert metrics["intent_false_rejections"] == pytest.approx(0.2, abs=0.1)
    assert "intent_scope_recall" not in metrics
    (task,) = load_model(tmp_path / "out")[0].config.tasks
    assert task.temperature == 1
    answers = pipeline("multi-task", model=str(tmp_path / "out"))([row["text"] for row in ROWS])
    assert {row["intent"]["label"] for row in answers} >= {None}


def test_without_validation_no_text_is_rejected(values, tmp_path):
    del values["data"]["validation"]
    training = {"num_train_epochs": 1, "save_strategy": "no", "eval_strategy": "no"}
    run_training(RunConfig.from_dict({**values, "training": training}))
    assert load_model(tmp_path / "out")[0].config.tasks[0].abstention.threshold is None
    assert "No task abstains: there is no validation split" in (tmp_path / "out" / "train.log").read_text()
