"""Folds of prepared rows: what is held out, what stays together, and what is refused."""

import json
from collections import Counter

import pytest

from hf_multitask import DataConfig, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.data.folds import UNLABELLED, label_names
from tests.tiny import ROWS, save_tiny_encoder

INTENT = TaskConfig("intent", "sequence_classification")
SLOTS = TaskConfig("slots", "token_classification")


def prepare(tokenizer, rows=ROWS, tasks=(INTENT, SLOTS), **options):
    return prepare_datasets({"train": rows}, tokenizer, list(tasks), **options)


def test_each_row_is_held_out_once_as_a_validation_file_would_contain_it(tokenizer):
    data = prepare(tokenizer, folds=4)
    seen = []
    for number in range(4):
        fold = data.fold(number)
        held_out = data.folds.rows(number)
        rest = [i for i in range(len(ROWS)) if i not in held_out]
        by_hand = prepare_datasets(
            {"train": [ROWS[i] for i in rest], "validation": [ROWS[i] for i in held_out]}, tokenizer, data.tasks
        )
        assert fold["train"].to_list() == by_hand["train"].to_list()
        assert fold["validation"].to_list() == by_hand["validation"].to_list()
        assert fold.reports["validation"].fully_labelled_rows == len(held_out)
        assert fold.reports["train"].fully_labelled_rows == len(rest)
        assert [fold.texts["validation"][i].words for i in range(len(held_out))] == [
            by_hand.texts["validation"][i].words for i in range(len(held_out))
        ]
        assert fold.folds is None
        seen += held_out
    assert sorted(seen) == list(range(len(ROWS)))
    assert data.get("validation") is None


def test_held_out_rows_have_one_label_per_word_where_training_labels_all_subwords(tmp_path):
    tokenizer = load_tokenizer(save_tiny_encoder("roberta", tmp_path))
    data = prepare(tokenizer, folds=2, label_subwords="all")
    fold = data.fold(1)
    held_out = [ROWS[i] for i in data.folds.rows(1)]
    rest = [ROWS[i] for i in data.folds.other_rows(1)]
    by_hand = prepare_datasets({"train": rest, "validation": held_out}, tokenizer, data.tasks, label_subwords="all")
    assert fold["train"].to_list() == by_hand["train"].to_list()
    assert fold["validation"].to_list() == by_hand["validation"].to_list()
    assert [len(row["labels"]["slots"]) for row in fold["validation"]] == [len(row["tokens"]) for row in held_out]
    assert data["train"].to_list() != data.folds.held_out.to_list()


def test_a_label_of_a_single_row_is_a_label_of_every_fold(tokenizer):
    data = prepare(tokenizer, [*ROWS, {**ROWS[0], "intent": "Once"}], folds=3)
    assert "Once" in data.tasks[0].labels
    assert [data.fold(i).tasks for i in range(3)] == [data.tasks] * 3


@pytest.mark.parametrize("kind", [str, int])
def test_rows_of_a_group_stay_together(tokenizer, kind):
    rows = [{**row, "speaker": kind(i // 4)} for i, row in enumerate(ROWS)]
    data = prepare(tokenizer, rows, folds=3, group="speaker")
    pairs = {(row["speaker"], fold) for row, fold in zip(rows, data.folds.fold_of, strict=True)}
    assert len(pairs) == len({row["speaker"] for row in rows})
    without = prepare(tokenizer, rows, folds=3)
    assert len({(row["speaker"], fold) for row, fold in zip(rows, without.folds.fold_of, strict=True)}) > len(pairs)


def test_the_group_may_be_a_column_of_a_file(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**row, "doc": f"d{i // 3}"}) + "\n" for i, row in enumerate(ROWS)))
    folds = prepare(tokenizer, str(path), folds=2, group="doc").folds.fold_of
    assert all(len(set(folds[i : i + 3])) == 1 for i in range(0, len(ROWS), 3))


def test_several_datasets_share_the_folds_and_the_groups(tokenizer):
    first = [{**row, "doc": i // 2} for i, row in enumerate(ROWS)]
    second = [{**row, "doc": i // 2} for i, row in enumerate(ROWS[:8])]
    configs = [DataConfig(train=rows, folds=2, group="doc") for rows in (first, second)]
    data = prepare_datasets(configs, tokenizer, [INTENT, SLOTS])
    folds = data.folds.fold_of
    assert folds[: len(second)] == folds[len(first) :]
    for number in range(2):
        assert set(data.fold(number)["train"]["dataset"]) == {0, 1}


def test_rows_without_labels_are_spread(tokenizer):
    rows = [*ROWS, *({"tokens": row["tokens"], "intent": None, "slots": None} for row in ROWS[:10])]
    data = prepare(tokenizer, rows, folds=5)
    counts = Counter(data.folds.fold_of[-10:])
    assert all(1 <= counts[fold] <= 3 for fold in range(5))
    assert sum(data.fold(i).reports["validation"].fully_labelled_rows for i in range(5)) == len(ROWS)


def test_folds_are_stratified_by_entity_types_and_missing_labels():
    slots = TaskConfig("slots", "token_classification", labels=["O", "B-a", "I-a", "B-b", "I-b"])
    tags = TaskConfig("tags", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification")
    size = TaskConfig("size", "sequence_classification", labels=["0"], problem_type="regression")
    intent = TaskConfig("intent", "sequence_classification", labels=["p", "q"])
    tasks = [slots, tags, size, intent]
    labels = {"slots": [0, 1, 2, -100], "tags": [1.0, 1.0], "size": [2.5], "intent": 1}
    assert label_names(labels, tasks) == {"slots:a", "tags:x", "tags:y", "intent:q"}
    nan = float("nan")
    labels = {"slots": [0, 0], "tags": [nan, nan], "size": [nan], "intent": -100}
    missing = {f"{name}:{UNLABELLED}" for name in ("tags", "size", "intent")}
    assert label_names(labels, tasks) == {"slots:O", *missing}
    assert label_names({**labels, "slots": [-100]}, tasks) == {f"slots:{UNLABELLED}", *missing}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds must be at least 2, found 1"),
        ({"group": "doc"}, "group='doc' has no effect without folds; add folds"),
        (
            {"folds": 5, "validation": ROWS},
            "folds and validation exclude each other.* Leave out validation .*, or leave out folds",
        ),
        ({"folds": 5, "validation_split": 0.1}, "folds and validation_split exclude each other"),
        ({"folds": 5, "streaming": True}, "leave out streaming to cross-validate, or leave out folds"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(train=ROWS, **options)


def test_datasets_with_different_folds_are_refused(tokenizer):
    configs = [DataConfig(train=ROWS, folds=2), DataConfig(train=ROWS, validation=ROWS)]
    with pytest.raises(ValueError, match=r"folds must be the same in all datasets.*found 2, None"):
        prepare_datasets(configs, tokenizer, [INTENT])


def test_rows_without_a_group_are_refused(tokenizer):
    rows = [{**row, "doc": i} for i, row in enumerate(ROWS)]
    with pytest.raises(ValueError, match="row 1: group: expected a string or a whole number in column 'doc', found"):
        prepare(tokenizer, [rows[0], {**rows[1], "doc": None}, *rows[2:]], folds=2, group="doc")
    with pytest.raises(ValueError, match=r"group: .*'dok'.*'doc'"):
        prepare(tokenizer, rows, folds=2, group="dok")
    with pytest.raises(ValueError, match="at most as many folds as groups, found 3 folds and 2"):
        prepare(tokenizer, [{**row, "doc": row["doc"] % 2} for row in rows], folds=3, group="doc")


def test_a_fold_that_does_not_exist_is_refused(tokenizer):
    with pytest.raises(ValueError, match="fold must be from 0 to 1, found 2"):
        prepare(tokenizer, folds=2).fold(2)
    with pytest.raises(ValueError, match="the data has no folds"):
        prepare(tokenizer).fold(0)
