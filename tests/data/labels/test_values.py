"""What a class is: numbers, floats, blanks, values for missing labels, joined and repeated names, lists of 0 and 1."""

import json

import numpy as np
import pandas as pd
import pytest

from hf_multitask import DataConfig, TaskConfig, prepare_datasets
from hf_multitask.data.preparation import load_datasets

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
FLOATS = [{"text": "a", "intent": 1.0}, {"text": "b", "intent": 0.0}, {"text": "c", "intent": None}]
MULTI_HOT = [{"text": "a", "intent": [1, 0, 1]}, {"text": "b", "intent": [0, 1, 0]}]


def intent(**fields):
    return TaskConfig("intent", "sequence_classification", **fields)


def load(train, task=None, **options):
    """Return the completed task, and the label ids of each row."""
    (loader,), (task,) = load_datasets([DataConfig(train=train, **options)], [task or intent()])
    loader.encode(loader.splits["train"], [task])
    return task, [row[task.name] for row in loader.splits["train"].labels], loader


def names(train, task=None, **options):
    """Return the name of each row's class."""
    task, ids, _ = load(train, task, **options)
    return [None if i < 0 else task.labels[i] for i in ids]


def column(*values):
    return [{"text": f"text {i}", "intent": value} for i, value in enumerate(values)]


# Numbers


@pytest.mark.parametrize("task", [intent(problem_type=SINGLE), intent(labels=["0", "1"])])
def test_whole_floats_are_classes_if_the_task_says_so(task):
    assert names(FLOATS, task) == ["1", "0", None]


@pytest.mark.parametrize("kind", ["rows", "jsonl", "parquet"])
def test_whole_floats_that_may_be_either_are_asked_for(kind, tmp_path):
    source = FLOATS
    if kind == "jsonl":
        source = tmp_path / "a.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in FLOATS))
    elif kind == "parquet":
        source = tmp_path / "a.parquet"
        pd.DataFrame(FLOATS).to_parquet(source)
    with pytest.raises(ValueError, match=rf"only the whole numbers 0.0, 1.0 as floats.*{SINGLE}.*regression"):
        load(source)
    assert load(source, intent(problem_type="regression"))[1][:2] == [[1.0], [0.0]]


@pytest.mark.parametrize("values", [[0.5, 1.0], [1.0, 2.0, 2.5], list(map(float, range(40)))])
def test_fractions_and_many_numbers_are_a_regression(values):
    task, labels, _ = load(column(*values))
    assert task.problem_type == "regression"
    assert labels == [[value] for value in values]


def test_numbers_and_their_texts_are_the_same_class():
    task, labels, _ = load(column(1, "1", 1.0, 10, 2))
    assert task.labels == ["1", "2", "10"]
    assert labels == [0, 0, 0, 2, 1]


def test_a_fraction_among_classes_names_the_problem_type():
    with pytest.raises(
        ValueError, match=r"row 1: .*expected one label .*found 0\.5\. Give `problem_type: regression`"
    ):
        load(column(1, 0.5))


@pytest.mark.parametrize("values", [[0, 1, -1], ["0", "1", None], [0.0, 1.0, float("nan")], [False, True, None]])
def test_numbers_are_positions_in_labels_that_are_names(values, caplog):
    if isinstance(values[0], bool):
        with pytest.raises(ValueError, match="does not know the labels 'False'"):
            names(column(*values), intent(labels=["no", "yes"]))
        return
    assert names(column(*values), intent(labels=["no", "yes"])) == ["no", "yes", None]


def test_numbers_are_no_positions_in_labels_with_a_number():
    with pytest.raises(ValueError, match="does not know the labels '0'"):
        names(column(0), intent(labels=["1", "two"]))
    with pytest.raises(ValueError, match="does not know the labels '7'"):
        names(column(7), intent(labels=["one", "two"]))


def test_types_of_numpy_and_pandas_are_read():
    rows = [
        {"text": "a", "intent": np.int64(1)},
        {"text": "b", "intent": np.str_("x")},
        {"text": "c", "intent": pd.NA},
        {"text": "d", "intent": np.float64("nan")},
        {"text": "e", "intent": np.bool_(True)},
    ]
    assert names(rows) == ["1", "x", None, None, "True"]
    assert load(column(np.array([0.5, 1.0]), (0.25, 2.0)))[1] == [[0.5, 1.0], [0.25, 2.0]]


def test_infinite_numbers_are_refused():
    with pytest.raises(ValueError, match=r"row 1: column 'intent': expected a number, found inf"):
        load(column(0.5, float("inf")))


# Several classes


def test_a_list_of_0_and_1_is_read_with_as_many_labels():
    task, labels, _ = load(MULTI_HOT, intent(labels=["a", "b", "c"]))
    assert task.problem_type == MULTI
    assert labels == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("task", [intent(), intent(problem_type=MULTI)])
def test_a_list_of_0_and_1_without_labels_is_asked_for(task):
    with pytest.raises(ValueError, match=r"has 3 numbers 0 and 1 per row\. Give .*`labels`.*or write the names"):
        load(MULTI_HOT, task)


def test_a_list_of_0_and_1_of_another_length_is_refused():
    with pytest.raises(ValueError, match="found 3 numbers 0 and 1, expected one for each of the 2 labels: a, b"):
        load(MULTI_HOT, intent(labels=["a", "b"]))


def test_lists_of_floats_0_and_1_are_asked_for():
    with pytest.raises(ValueError, match=r"has 2 numbers 0 and 1 per row.*`problem_type: regression`"):
        load(column([1.0, 0.0], [0.0, 0.0]))
    assert load(column([1.0, 0.0]), intent(problem_type=MULTI, labels=["a", "b"]))[1] == [[1.0, 0.0]]


def test_classes_with_0_or_1_are_read():
    task, labels, _ = load(column({"a": 1, "b": 0}, {"a": 1, "b": 1.0}))
    assert (task.problem_type, labels) == (MULTI, [[1.0, 0.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match=r"row 0: .*expected 0 or 1 for each class"):
        load(column({"a": 0.3}))


def test_positions_in_lists_are_read():
    assert load(column([2, 0], [1]), intent(labels=["a", "b", "c"]))[1] == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("separator", ["|", ";", ",", " / "])
@pytest.mark.parametrize("task", [intent(), intent(problem_type=MULTI)])
def test_joined_labels_are_split_at_the_separator(separator, task):
    rows = column(f"news{separator}work", "order", f"order {separator} news", None)
    completed, labels, _ = load(rows, task, label_separator=separator)
    assert completed.labels == ["news", "order", "work"]
    assert labels[:3] == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]


@pytest.mark.parametrize("separator", ["|", ";", ",", "/"])
def test_labels_that_look_joined_are_named(separator):
    remarks = load(column(f"news{separator}work", "order", f"order{separator}news"))[2].remarks()
    assert f"seem to be several labels in one; if so, give `label_separator: {separator!r}`" in remarks[0]
    assert load(column("km/h", "kg", "a;b"))[2].remarks() == []


# Blanks, spellings and missing labels


@pytest.mark.parametrize("blank", [" news", "news ", "\tnews", "news\u00a0", " news\n"])
def test_white_space_around_a_label_is_no_part_of_it(blank):
    assert names(column("news", blank, "order")) == ["news", "news", "order"]
    assert load(column(["news", blank], ["order"]))[0].labels == ["news", "order"]


@pytest.mark.parametrize("blank", ["", "  ", "\u00a0"])
def test_a_blank_label_is_no_label_and_counted(blank):
    _, labels, loader = load(column("news", blank, "order"))
    assert labels == [0, -100, 1]
    assert loader.splits["train"].report.unlabelled_rows == {"intent": 1}


@pytest.mark.parametrize("name", ["nan", "None", "NULL", "N/A", "-1", "?"])
def test_names_of_missing_labels_are_named_with_their_counts(name):
    rows = column("news", name, name, "order")
    assert f"{name!r} (2 times) may mean that there is no label" in load(rows)[2].remarks()[0]
    assert names(rows, missing_labels=[name]) == ["news", None, None, "order"]
    assert load(rows, missing_labels=[name])[2].remarks() == []


@pytest.mark.parametrize("other", ["News", "ne ws", "ne-ws", "ne_ws", "ｎews"])
def test_labels_that_differ_in_spelling_are_named_with_their_counts(other):
    (remark,) = load(column("news", other, other, "order"))[2].remarks()
    assert "differ only in spelling" in remark
    assert f"'news' (1 times), {other!r} (2 times)" in remark


def test_a_task_with_one_class_is_named():
    (remark,) = load(column("news", "news"))[2].remarks()
    assert "'news' (2 times) is the only class: there is nothing to learn" in remark


def test_remarks_are_logged_when_a_run_starts(tokenizer, caplog):
    prepare_datasets({"train": column("news", "nan")}, tokenizer, [intent()])
    assert "task 'intent': 'nan' (1 times) may mean that there is no label" in caplog.text
