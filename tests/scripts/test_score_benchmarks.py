"""Benchmarks of scores train what they promise and write the results."""

import csv
import sys

import pytest
import yaml
from transformers import pipeline

from hf_multitask.models.tags_iob2 import tag_spans
from tests.scripts.splits import SCRIPTS, SPLITS
from tests.tiny import METRIC_NAMES, ROWS, config_of_two_datasets, without_calibration

KINDS = {"B-place": "B-artist", "I-place": "I-artist"}
# Entities of two types.
MIXED_ROWS = [
    {**row, "slots": [KINDS.get(tag, tag) for tag in row["slots"]]} if i % 2 else row for i, row in enumerate(ROWS)
]


def test_defaults_trains_texts_with_several_intents(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--seeds", 0, "--efforts", "quick")
    result = run("defaults", *options, "--datasets", "snips-several")
    assert result["runs"][0]["test"]["intent_micro_f1"] > 0
    assert "snips-several  quick    " in capsys.readouterr().out


def test_joined_texts_have_the_words_tags_and_intents_of_their_parts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.intents_and_slots import join_texts

    rows = [
        {"tokens": ["play", "jazz"], "slots": ["O", "B-genre"], "intent": "play"},
        {"tokens": ["rain", "tomorrow"], "slots": ["O", "B-time"], "intent": "weather"},
        {"tokens": ["book", "it"], "slots": ["O", "O"], "intent": "book"},
    ]
    joined = join_texts(rows, 50)
    by_intent = {row["intent"]: row for row in rows}
    assert {len(row["intent"]) for row in joined} == {1, 2, 3}
    for row in joined:
        parts = [by_intent[intent] for intent in row["intent"]]
        assert " ".join(row["tokens"]) == " and ".join(" ".join(part["tokens"]) for part in parts)
        assert " ".join(row["slots"]) == " O ".join(" ".join(part["slots"]) for part in parts)
    assert joined == join_texts(rows, 50)


def test_sharing_scores_compares_methods(run, encoder, datasets_folder, capsys):
    methods = ("none", "random", "UPGrad", "private_layers: 2")
    options = ("--data", datasets_folder, "--encoder", encoder, "--epochs", 1, "--seeds", 1, "--methods", *methods)
    options += ("--rows", len(ROWS) // 2)
    result = run("sharing-scores", *options, "--datasets", "snips-400", "snips-apart", "wnut17-clinc150")
    assert [run["method"] for run in result["runs"]] == [*methods] * 3
    # Each method trains another model.
    assert len({run["validation"]["loss"] for run in result["runs"]}) == 12
    printed = capsys.readouterr().out
    assert "wnut17-clinc150        private_layers: 2   ner_f1" in printed
    assert "snips-400              none                intent_accuracy" in printed


def test_sharing_scores_compares_heads_with_chosen_settings(run, encoder, datasets_folder):
    options = ("--data", datasets_folder, "--encoder", encoder, "--epochs", 1, "--seeds", 1)
    methods = ("none", "lstm", "mix_layers", "lstm+mix_layers")
    result = run("sharing-scores", *options, "--datasets", "wnut17-clinc150-chosen", "--methods", *methods)
    assert len({run["validation"]["loss"] for run in result["runs"]}) == len(methods)
    assert all(0 <= run["tagged_texts"] <= 1 for run in result["runs"])


def test_lora_compares_adapters_with_the_weights_themselves(run, encoder, datasets_folder, capsys):
    options = ("--data", datasets_folder, "--encoder", encoder, "--datasets", "snips", "--rows", 8, "--seeds", 1)
    result = run("lora", *options, "--methods", "everything", "lora", "--forgetting")
    runs = {run["method"]: run for run in result["runs"]}
    assert list(runs) == ["untrained", "everything", "lora"]
    # The encoder is so small that adapters are larger.
    assert runs["everything"]["mib"] < runs["lora"]["mib"]
    assert all(0 <= run["clinc150_accuracy"] <= 1 for run in runs.values())
    assert "| snips | intent_accuracy | slots_f1 | joint_accuracy | clinc150_accuracy |" in capsys.readouterr().out


def test_mix_compares_tasks_mixed_and_separately(run, encoder, write_jsonl, tmp_path, capsys):
    files = {split: str(write_jsonl(rows)) for split, rows in SPLITS.items()}
    config = config_of_two_datasets(encoder, files, tmp_path / "out")
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    result = run("mix", path, "--seeds", 0, 1)
    assert (result["benchmark"], result["config"]) == ("mix", str(path))
    mixed, separate = ["intent", "slots"], [["intent"], ["slots"]]
    assert [(each["seed"], each["tasks"]) for each in result["runs"]] == [
        (seed, tasks) for seed in (0, 1) for tasks in (mixed, *separate)
    ]
    assert all({"minutes", "validation", "test"} <= each.keys() for each in result["runs"])
    assert "intent + slots" in capsys.readouterr().out


def test_scores_trains_each_variant_with_each_seed(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    variants = ("plain", "lstm+crf+mix_layers+ema+layer_lr_decay+all_subwords")
    options = ("--data", tmp_path, "--encoder", encoder, "--epochs", 1, "--seeds", 3, "--train-rows", 9)
    result = run("scores", *options, "--variants", *variants)
    assert (result["benchmark"], result["train_rows"]) == ("scores", 9)
    assert [(each["variant"], each["seed"]) for each in result["runs"]] == [(name, 3) for name in variants]
    for each in result["runs"]:
        assert without_calibration(each["test"]) == METRIC_NAMES
        assert without_calibration(each["validation"]) == METRIC_NAMES
        mistakes = each["slot_mistakes"]
        gold = sum(tag.startswith("B-") for row in SPLITS["test"] for tag in row["slots"])
        assert mistakes["seen"] + mistakes["unseen"] == gold
        wrong = mistakes["seen_wrong"] + mistakes["unseen_wrong"]
        assert wrong == mistakes["wrong_type"] + mistakes["wrong_boundaries"] + mistakes["missed"]
        assert wrong == pytest.approx(gold * (1 - each["test"]["slots_recall"]))
    printed = capsys.readouterr().out
    assert "9 training rows" in printed
    assert all(printed.count(f"\n{name} ") == 3 for name in variants)


def test_wrong_slots_are_counted_by_kind_and_by_occurrence_in_training(monkeypatch, model, tokenizer, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.slot_mistakes import slot_mistakes

    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    predict = pipeline("multi-task", model=str(tmp_path), tasks=["slots"], word_labels=True)
    rows = [{"tokens": row["tokens"], "slots": predict(row)["slots"]["labels"]} for row in ROWS]
    slots = sum(len(tag_spans(row["slots"])) for row in rows)
    kinds = dict.fromkeys(("wrong_type", "wrong_boundaries", "missed", "spurious"), 0)
    no_mistakes = {**kinds, "seen": 0, "seen_wrong": 0, "unseen": slots, "unseen_wrong": 0}
    assert slots > 0
    assert slot_mistakes(tmp_path, [], rows) == no_mistakes
    assert slot_mistakes(tmp_path, rows, rows) == {**no_mistakes, "seen": slots, "unseen": 0}
    # Without gold slots, all predicted slots are spurious. No slot with other words occurs in training.
    unlabeled = [{**row, "slots": ["O"] * len(row["tokens"])} for row in rows]
    assert slot_mistakes(tmp_path, rows, unlabeled) == {**no_mistakes, "spurious": slots, "unseen": 0}
    other_words = [{**row, "tokens": [f"{token}s" for token in row["tokens"]]} for row in rows]
    assert slot_mistakes(tmp_path, other_words, rows) == no_mistakes


def test_an_unknown_variant_is_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("scores", "--data", tmp_path, "--variants", "lstm+crff")
    assert "unknown variant 'crff'; allowed: constrained, plain, crf" in capsys.readouterr().err


def test_few_rows_are_compared_with_setfit_in_its_own_environment(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in (("train", ROWS), ("test", ROWS[9:])):
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    program = tmp_path / "program.py"
    program.write_text("""
import json, pathlib, sys
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = pathlib.Path(options["--folder"])
train, test = ([json.loads(line) for line in open(folder / f"{split}.jsonl")] for split in ("train", "test"))
assert sys.argv[1].endswith("setfit_program.py") and len(train) == 8 and len(test) == 13, sys.argv
assert options["--num-iterations"] == "5" and all(row.keys() == {"text", "intent"} for row in train)
print(json.dumps({"accuracy": 0.5, "seconds": 3.0, "steps": 4, "versions": {"setfit": "1.1.3"}}))
""")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    python.chmod(0o755)
    options = ("--data", tmp_path, "--encoder", encoder, "--rows", 8, "--seeds", 0)
    result = run("few-rows", *options, "--setfit-python", python, "--num-iterations", 5)
    assert (result["benchmark"], result["rows"], result["test_rows"]) == ("few-rows", 8, 13)
    methods = ["heads", "chosen", "top:2", "heads-then-all", "plain", "contrastive", "contrastive-all", "setfit"]
    assert [one["method"] for one in result["runs"]] == methods
    assert result["runs"][0]["steps"] == 40
    assert all(0 <= one["accuracy"] <= 1 and one["seconds"] > 0 for one in result["runs"])
    assert "| setfit | 50.00 ± 0.00 | 50.00 | 3 |" in capsys.readouterr().out


def test_few_rows_are_drawn_evenly(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.few_rows import draw_evenly

    rows = [{"text": f"{i}", "intent": "abc"[i % 3]} for i in range(30)]
    drawn = draw_evenly(rows, 10, seed=0)
    counts = [[row["intent"] for row in drawn].count(intent) for intent in "abc"]
    assert sorted(counts) == [3, 3, 4]
    assert len({row["text"] for row in drawn}) == 10
    assert drawn == draw_evenly(rows, 10, seed=0)
    assert drawn != draw_evenly(rows, 10, seed=1)
    with pytest.raises(ValueError, match="intent 'a': expected at least 11 rows, found 10"):
        draw_evenly(rows, 33, seed=0)


@pytest.mark.slow
def test_tune_compares_the_winner_with_the_config(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    options = ("--data", tmp_path, "--encoder", encoder, "--rows", 9, "--trials", 2, "--seeds", 1)
    result = run("tune", *options)
    assert (result["benchmark"], result["trials"]) == ("tune", 2)
    assert result["winner"]["test"].keys() == {"42"}
    assert result["config"][0].keys() == result["winner"]["test"]["42"].keys()
    assert "joint_accuracy" in capsys.readouterr().out


def test_distill_compares_students_and_averages(run, encoder, write_jsonl, tmp_path, capsys):
    for split, rows in SPLITS.items():
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    options = ("--data", tmp_path, "--encoder", encoder, "--labeled-rows", 10, "--unlabeled-rows", 8)
    result = run("distill", *options, "--epochs", 1, "--distill-epochs", 1, "--teachers", 2, "--seeds", 0, 1)
    assert (result["labeled_rows"], result["unlabeled_rows"], result["teachers"]) == (10, 8, 2)
    kinds = [(item["kind"], item["seed"]) for item in result["runs"]]
    students = [(kind, seed) for seed in (0, 1) for kind in ("student alone", "student with teacher")]
    assert kinds == [("teacher", 0), ("teacher", 1), *students]
    assert len(result["averages"]) == 4
    assert "gain of the student's slot F1 by its teacher" in capsys.readouterr().out


def test_label_issues_counts_the_exchanged_labels(run, encoder, write_jsonl, tmp_path, capsys):
    for folder in ("snips", "clinc150"):
        (tmp_path / folder).mkdir()
    for split in SPLITS:
        write_jsonl(MIXED_ROWS, tmp_path / "snips" / f"{split}.jsonl")
    with (tmp_path / "clinc150" / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "intent"), *((" ".join(row["tokens"]), row["intent"]) for row in ROWS)])
    options = ("--data", tmp_path, "--encoder", encoder, "--share", 0.1)
    result = run("label-issues", *options, "--datasets", "clinc150", "snips")
    assert [(item["data"], item["task"]) for item in result["runs"]] == [
        ("clinc150", "intent"),
        ("snips", "intent"),
        ("snips", "slots"),
    ]
    for item in result["runs"]:
        assert (item["rows"], item["exchanged"]) == (22, 2)
        assert 0 <= item["in_first_part"] <= 1
    assert "| clinc150 | intent | 0 | 22 | 2 |" in capsys.readouterr().out


def test_exchanged_labels_are_others_and_all_else_stays(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.label_issues import exchange_labels

    before = [*MIXED_ROWS, *ROWS]
    rows = [dict(row) for row in before]
    changed = exchange_labels(rows, 0.2, 0)
    assert {task: len(found) for task, found in changed.items()} == {"intent": 9, "slots": 9}
    for task, found in changed.items():
        assert {i for i, (row, old) in enumerate(zip(rows, before, strict=True)) if row[task] != old[task]} == found
    for row, old in zip(rows, before, strict=True):
        spans = [[(span.start, span.end) for span in tag_spans(one["slots"])] for one in (row, old)]
        assert spans[0] == spans[1]
