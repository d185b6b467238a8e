"""The report of a run has the numbers of the run, for all kinds of tasks and data."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from hf_multitask import MultiTaskTrainer, RunConfig, run_training
from hf_multitask.runs.output_dir import find_last_checkpoint, read_metrics
from tests.reports.reading import Page, check_self_contained
from tests.tiny import ROWS

EVIL = "<script>alert('1')</script>"
MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def values(encoder, write_jsonl):
    files = {"train": ROWS, "validation": ROWS[:9], "test": ROWS[9:]}
    return {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {split: str(write_jsonl(rows)) for split, rows in files.items()},
        "training": {
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 4,
            "logging_steps": 2,
        },
        "freeze": {"stages": [{"name": "heads", "train": "heads", "epochs": 1}, {"name": "whole", "train": "all"}]},
    }


def run(values, folder, **arguments):
    metrics = run_training(RunConfig.from_dict({**values, "output_dir": str(folder)}), **arguments)
    return metrics, Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, *run(values, folder)


def test_the_scores_match_metrics_json(whole):
    folder, _, page = whole
    written = read_metrics(folder)
    table = page.table("Metric")
    assert table.pop("Metric") == ["validation", "test"] == list(written)
    assert table == {name: [f"{written[split][name]:.4f}" for split in written] for name in written["validation"]}


def test_the_report_is_self_contained_and_small(whole):
    folder, _, page = whole
    check_self_contained(page)
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert (folder / "report.html").stat().st_size < MAX_BYTES


def test_the_stages_match_stages_json(whole):
    folder, _, page = whole
    stages = json.loads((folder / "stages.json").read_text())["stages"]
    table = page.table("Stage")
    assert table["Stage"] == ["1 heads", "2 whole"]
    assert table["Steps"] == [str(stage["steps"]) for stage in stages]
    assert table["Reason for the start"] == [stage["reason"] for stage in stages]
    assert table["Best joint_accuracy"] == [f"{stage['best']['joint_accuracy']:.4f}" for stage in stages]
    assert table["Mean training slots_loss"] == [f"{stage['train_losses']['slots_loss']:.4f}" for stage in stages]
    assert "1 heads" in page.plain  # in the curves too


def test_the_mistakes_are_those_of_the_report(whole):
    folder, metrics, page = whole
    tasks = {task["task"]: task for task in json.loads((folder / "mistakes.json").read_text())["tasks"]}
    assert tasks.keys() == {"intent", "slots"}
    intent = tasks["intent"]
    assert (intent["split"], intent["rows"]) == ("validation", 9)
    assert intent["wrong"] == round(9 * (1 - metrics["validation"]["intent_accuracy"])) > 0
    for mistake in intent["mistakes"]:
        assert mistake["text"] in page.plain
        (text, gold, predicted) = mistake["lines"]
        assert text["pieces"][0]["text"] == mistake["text"]
        assert gold["pieces"] != predicted["pieces"]
    for mistake in tasks["slots"]["mistakes"]:
        assert {line["name"] for line in mistake["lines"]} == {"gold", "predicted"}
        assert "".join(piece["text"] for piece in mistake["lines"][0]["pieces"]) == mistake["text"]


def test_the_history_is_the_log_history_of_the_trainer(whole):
    folder, _, _ = whole
    written = json.loads((folder / "history.json").read_text())
    state = json.loads((find_last_checkpoint(folder) / "trainer_state.json").read_text())
    recorded = written["history"][: len(state["log_history"])]
    assert recorded == state["log_history"]
    assert written["stages"] == json.loads((folder / "stages.json").read_text())["stages"]
    assert [task["name"] for task in written["tasks"]] == ["intent", "slots"]
    assert written["tasks"][1]["labels"] == ["O", "B-place", "I-place"]


def test_metrics_by_class_add_up(whole):
    _, metrics, page = whole
    for split, rows in (("validation", ROWS[:9]), ("test", ROWS[9:])):
        (table,) = [
            rows
            for rows in page.tables
            if rows[0][0] == "Label"
            and sum(int(row[4]) for row in rows[1:]) == len(ROWS[:9] if split == "validation" else ROWS[9:])
        ]
        right = sum(int(row[6]) for row in table[1:])
        assert right / len(rows) == pytest.approx(metrics[split]["intent_accuracy"])
        assert sum(float(row[3]) for row in table[1:]) / (len(table) - 1) == pytest.approx(
            metrics[split]["intent_macro_f1"], abs=1e-4
        )


def test_the_worst_mistakes_have_their_texts(whole):
    _, _, page = whole
    texts = {" ".join(row["tokens"]): row["intent"] for row in ROWS[:9]}
    (table,) = [rows for rows in page.tables if rows[0][0] == "Text"]
    assert len(table) > 1
    assert all(texts[text] == gold != predicted for text, gold, predicted, _ in table[1:])
    scores = [float(row[3]) for row in table[1:]]
    assert scores == sorted(scores, reverse=True)
    assert 1 >= scores[0] > 0
    assert "mark" in page.tags  # a missed place
    assert f"{len(table) - 1} of 9 rows are wrong; all are shown" in page.plain
    # Of both tasks, whether or not there are any.
    assert page.plain.count("onfident learning") == 2


def test_mistakes_of_pairs_show_both_texts(values, tmp_path, write_jsonl):
    rows = [{**row, "text_pair": f"answer {i}"} for i, row in enumerate(ROWS)]
    files = {split: str(write_jsonl(rows)) for split in ("train", "validation")}
    training = {**values["training"], "num_train_epochs": 1, "learning_rate": 1e-9}
    _, page = run({**values, "data": files, "freeze": "none", "training": training}, tmp_path / "run")
    (table,) = [lines for lines in page.tables if lines[0][0] == "Text"]
    known = {f"{' '.join(row['tokens'])} ‖ {row['text_pair']}" for row in rows}
    assert len(table) > 1
    assert {line[0] for line in table[1:]} <= known
    assert "second text" in page.plain


def test_each_split_is_predicted_once_and_logged_once(values, tmp_path, monkeypatch):
    passes = []
    loop = MultiTaskTrainer.evaluation_loop

    def watched(self, dataloader, *args, **kwargs):
        passes.append(kwargs.get("metric_key_prefix", "eval"))
        return loop(self, dataloader, *args, **kwargs)

    monkeypatch.setattr(MultiTaskTrainer, "evaluation_loop", watched)
    metrics, _ = run(values, tmp_path)
    assert [name for name in passes if name != "eval"] == ["calibration", "validation", "test"]
    history = json.loads((tmp_path / "history.json").read_text())["history"]
    for split in ("validation", "test"):
        (entry,) = [entry for entry in history if f"{split}_loss" in entry]
        assert entry[f"{split}_joint_accuracy"] == metrics[split]["joint_accuracy"]


def test_names_and_texts_of_the_data_are_never_markup(values, tmp_path, write_jsonl):
    rows = [
        {
            "text": f"{row['tokens'][0]} {EVIL} {i}",
            "intent": EVIL if i % 2 else "b",
            "slots": [{"start": 0, "end": len(row["tokens"][0]), "label": EVIL}] if i % 3 else [],
        }
        for i, row in enumerate(ROWS)
    ]
    data = {"train": str(write_jsonl(rows)), "test": str(write_jsonl(rows))}
    _, page = run({**values, "data": data}, tmp_path)
    assert "script" not in page.tags
    check_self_contained(page)
    assert page.plain.count(EVIL) > 20


def test_regression_and_several_labels(values, tmp_path, write_jsonl):
    rows = [
        {"text": " ".join(row["tokens"]), "size": len(row["tokens"]) / 2, "found": sorted(set(row["slots"]) - {"O"})}
        for row in ROWS
    ]
    tasks = [{"name": name, "type": "sequence_classification"} for name in ("size", "found")]
    data = {"train": str(write_jsonl(rows)), "validation": str(write_jsonl(rows[:9]))}
    metrics, page = run({**values, "tasks": tasks, "data": data}, tmp_path)
    assert page.table("Metric")["size_mae"] == [f"{metrics['validation']['size_mae']:.4f}"]
    assert "gold = predicted" in page.plain
    labels = page.table("Label")
    f1 = [float(row[2]) for name, row in labels.items() if name != "Label"]
    assert sum(f1) / 2 == pytest.approx(metrics["validation"]["found_macro_f1"], abs=1e-4)
    check_self_contained(page)


def test_without_rows_to_score_there_are_only_curves(values, tmp_path):
    _, page = run({**values, "data": {"train": values["data"]["train"]}}, tmp_path)
    assert "neither validation nor test rows" in page.plain
    assert "intent: loss" in page.plain
    assert "No validation or test row has a label of this task." in page.plain


def test_the_report_of_a_baseline_states_that_nothing_was_trained(values, tmp_path):
    metrics, page = run({**values, "freeze": "all"}, tmp_path)
    assert "Nothing was trained" in page.plain
    assert page.table("Metric")["loss"] == [f"{metrics[split]['loss']:.4f}" for split in ("validation", "test")]
    assert not any(rows[0][0] == "Stage" for rows in page.tables)
    assert "Worst mistakes on validation" in page.plain


def test_datasets_that_label_one_task_each(values, tmp_path, write_jsonl):
    def only(task, rows):
        return str(write_jsonl([{"tokens": row["tokens"], task: row[task]} for row in rows]))

    data = [
        {"tasks": ["intent"], "train": only("intent", ROWS), "validation": only("intent", ROWS[:5])},
        {"tasks": ["slots"], "train": only("slots", ROWS), "test": only("slots", ROWS[5:])},
    ]
    _, page = run({**values, "data": data}, tmp_path)
    # Each task is reported on the splits that have its labels.
    assert "By label on validation" in page.plain
    assert "By label on test" not in page.plain
    assert "By entity type on test" in page.plain
    texts = {" ".join(row["tokens"]) for row in ROWS[:5]}
    (table,) = [rows for rows in page.tables if rows[0][0] == "Text"]
    assert {row[0] for row in table[1:]} <= texts


def test_a_stream(values, tmp_path):
    data = {**values["data"], "streaming": True}
    training = {**values["training"], "max_steps": 8}
    _, page = run({**values, "data": data, "training": training, "freeze": "none"}, tmp_path)
    assert "train streamed" in page.table("Run")["Rows"][0]
    assert "step" in page.plain


def test_a_resumed_run_has_the_whole_history(values, whole, tmp_path):
    folder, metrics, page = whole
    first = min(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.copytree(first, tmp_path / first.name)
    resumed, again = run(values, tmp_path, resume=True)
    assert resumed == metrics
    assert again.table("Metric") == page.table("Metric")
    first, second = (json.loads((path / "history.json").read_text())["history"] for path in (folder, tmp_path))
    assert [entry["step"] for entry in first] == [entry["step"] for entry in second]


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_training_works_without_the_packages_of_reports(package, values, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, package, None)
    run_training(RunConfig.from_dict({**values, "output_dir": str(tmp_path)}))
    assert "hf-multitask[reports]" not in caplog.text, "nobody chose the extra"
    assert (tmp_path / "metrics.json").is_file()
    assert (tmp_path / "history.json").is_file()
    assert not (tmp_path / "report.html").exists()


def test_long_texts_and_many_labels_stay_small(values, tmp_path, write_jsonl):
    rows = [
        {
            "tokens": [f"w{(i * 7 + j) % 90}" for j in range(400)],
            "intent": f"label {i % 150}",
            "slots": ["B-place" if (i + j) % 5 == 0 else "O" for j in range(400)],
        }
        for i in range(300)
    ]
    data = {"train": str(write_jsonl(rows)), "test": str(write_jsonl(rows)), "truncate": True}
    training = {**values["training"], "max_steps": 2}
    _, page = run({**values, "data": data, "training": training, "freeze": "none"}, tmp_path)
    assert Path(tmp_path, "report.html").stat().st_size < MAX_BYTES / 3
    assert "100 of 150 are shown" in page.plain or "others" in page.plain
