"""Labels that train lacks: wrong in every score, and no part of any loss."""

import json
import zlib

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from sklearn import metrics as sklearn_metrics

from hf_multitask import MultiTaskModel, RunConfig, TaskConfig, load_tokenizer, run_evaluation, run_training
from hf_multitask.cli.main import main
from hf_multitask.data.labels.unseen_labels import unseen_id
from hf_multitask.runs.evaluation import score_rows
from tests.tiny import ROWS

# Of types and classes that train has and lacks: alone, next to each other, and in a row with both.
TEST = [
    {"tokens": ["play", "paris"], "intent": "PlayMusic", "slots": ["O", "B-place"], "topics": ["a"]},
    {"tokens": ["rain", "in", "london"], "intent": "Fly", "slots": ["O", "O", "B-place"], "topics": ["a", "new"]},
    {
        "tokens": ["two", "old", "mill", "at", "new", "york"],
        "intent": "BookRestaurant",
        "slots": ["B-size", "B-venue", "I-venue", "O", "B-place", "I-place"],
        "topics": ["new", "newer"],
    },
    {"tokens": ["next", "week"], "intent": "Sail", "slots": ["B-time", "I-time"], "topics": []},
    {"tokens": ["will", "it", "rain"], "intent": "GetWeather", "slots": ["O", "O", "O"], "topics": ["b"]},
]
TOPICS = [["a"], ["b"], ["a", "b"]]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, encoders):
    folder = tmp_path_factory.mktemp("unseen")
    rows = [{**row, "topics": TOPICS[i % 3]} for i, row in enumerate(ROWS)]
    values = {
        "encoder": str(encoders["bert"]),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification", "crf": False},
            {"name": "topics", "type": "sequence_classification", "problem_type": "multi_label_classification"},
        ],
        "data": {
            "train": write(folder / "train.jsonl", rows),
            "test": write(folder / "test.jsonl", TEST),
            "unseen_labels": "ignore",
        },
        "training": {"num_train_epochs": 2, "learning_rate": 1e-3, "report_to": "none", "save_strategy": "no"},
        "output_dir": str(folder / "out"),
    }
    run_training(RunConfig.from_dict(values))
    return folder / "out"


@pytest.fixture(scope="module")
def result(trained):
    model, tokenizer = MultiTaskModel.from_pretrained(trained), load_tokenizer(trained)
    return score_rows(model, tokenizer, TEST, unseen_labels="ignore")


def predicted(result, name):
    """Predicted names of a task in the order of the rows."""
    return result.output.predictions[name]["ids"]


def test_scores_of_tags_are_seqevals_of_the_file(trained, result):
    labels = MultiTaskModel.from_pretrained(trained).config.tasks[1].labels
    gold = [row["slots"] for row in TEST]
    found = [[labels[i] for i in ids[: len(row)]] for ids, row in zip(predicted(result, "slots"), gold, strict=True)]
    # As conlleval, and in its own count of entities.
    assert result.metrics["slots_f1"] == pytest.approx(f1_score(gold, found))
    assert result.metrics["slots_precision"] == pytest.approx(precision_score(gold, found, zero_division=0))
    assert result.metrics["slots_recall"] == pytest.approx(recall_score(gold, found))
    report = classification_report(gold, found, output_dict=True, zero_division=0)
    tasks = MultiTaskModel.from_pretrained(trained).config.tasks
    assert result.support(tasks)["slots"] == {"rows": 5, "words": 16, "entities": report["micro avg"]["support"]}
    assert result.metrics["slots_unseen_labels"] == 3


def test_scores_of_classes_are_scikit_learns_of_the_file(trained, result):
    labels = MultiTaskModel.from_pretrained(trained).config.tasks[0].labels
    gold, found = [row["intent"] for row in TEST], [labels[i] for i in predicted(result, "intent")]
    assert result.metrics["intent_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(gold, found))
    macro = sklearn_metrics.f1_score(gold, found, average="macro", zero_division=0)
    assert result.metrics["intent_macro_f1"] == pytest.approx(macro)
    assert result.metrics["intent_unseen_labels"] == 2
    seen = [(label, name) for label, name in zip(gold, found, strict=True) if label not in ("Fly", "Sail")]
    assert result.metrics["intent_accuracy_seen"] == np.mean([label == name for label, name in seen])


def test_scores_of_several_labels_are_scikit_learns_of_the_file(trained, result):
    names = [*MultiTaskModel.from_pretrained(trained).config.tasks[2].labels, "new", "newer"]
    gold = np.array([[name in row["topics"] for name in names] for row in TEST])
    found = np.pad(predicted(result, "topics"), ((0, 0), (0, 2))) > 0
    assert result.metrics["topics_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(gold, found))
    for average in ("micro", "macro"):
        expected = sklearn_metrics.f1_score(gold, found, average=average, zero_division=0)
        assert result.metrics[f"topics_{average}_f1"] == pytest.approx(expected)
    assert result.metrics["topics_unseen_labels"] == 3


def test_scores_do_not_depend_on_the_batches(trained, result):
    model, tokenizer = MultiTaskModel.from_pretrained(trained), load_tokenizer(trained)
    one_by_one = score_rows(model, tokenizer, TEST, batch_size=1, unseen_labels="ignore").metrics
    assert one_by_one == pytest.approx(dict(result.metrics), rel=1e-4)


def test_the_rows_that_train_can_know_score_as_without_the_others(trained, result):
    known = [
        {
            **row,
            "intent": row["intent"] if row["intent"] not in ("Fly", "Sail") else None,
            "slots": [tag if tag == "O" or tag.endswith("place") else None for tag in row["slots"]],
            "topics": [name for name in row["topics"] if not name.startswith("new")],
        }
        for row in TEST
    ]
    alone = run_evaluation(trained, known)
    assert not any(name.endswith("unseen_labels") for name in alone)
    for name in ("intent_accuracy", "intent_macro_f1", "slots_f1", "slots_strict_f1", "topics_accuracy"):
        assert result.metrics[f"{name}_seen"] == pytest.approx(alone[name]), name
        assert result.metrics[name] <= alone[name]
    for name in ("intent_loss", "slots_loss", "topics_loss", "loss"):
        assert result.metrics[name] == pytest.approx(alone[name], rel=1e-4), "no loss counts them"


def test_the_file_of_a_run_and_of_an_evaluation_have_the_support(trained, tmp_path, capsys):
    support = json.loads((trained / "metrics.json").read_text())["test"].pop("support")
    assert support["intent"] == support["topics"] == {"rows": 5}
    assert support["slots"] == {"rows": 5, "words": 16, "entities": 6}
    test = write(tmp_path / "test.jsonl", TEST)
    output = tmp_path / "m.json"
    arguments = ["evaluate", str(trained), test, "--unseen-labels", "ignore", "--output", str(output)]
    assert main(arguments) == 0
    written = json.loads(output.read_text())
    assert written.pop("support") == support
    assert written["slots_unseen_labels"] == 3
    assert "intent_unseen_labels" in capsys.readouterr().out


def test_ids_of_unseen_labels_tell_types_apart_and_fit_into_float32():
    slots, intent = TaskConfig("slots", "token_classification"), TaskConfig("intent", "sequence_classification")
    begin, inside = unseen_id(slots, "B-x"), unseen_id(slots, "I-x")
    assert (begin % 2, inside % 2, begin - inside) == (1, 0, 1)
    assert unseen_id(intent, "B-x") != unseen_id(intent, "x")
    assert unseen_id(intent, "x") == -101 - 2 * (zlib.crc32(b"x") % 2**22)
    assert np.float32(-102 - 2 * (2**22 - 1)) == -102 - 2 * (2**22 - 1)
