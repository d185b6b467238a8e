"""Entity types by label in the training rows: counts, the estimate of unseen pairs, and the tasks they complete."""

from dataclasses import replace

import pytest

from hf_multitask import TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.data.labels.seen_types import SeenTypes, with_seen_types


def row(label, *types):
    words = [f"w{i}" for i in range(len(types) + 1)]
    return {"tokens": words, "kind": label, "spans": ["O", *(f"B-{name}" for name in types)]}


ROWS = [row("a", "x"), row("a", "x", "x"), row("b", "y"), row("b", "x"), row("c"), row("c")]
TASKS = [TaskConfig("kind", "sequence_classification"), TaskConfig("spans", "token_classification")]


def prepare(encoder, rows, tasks=TASKS, **options):
    return prepare_datasets({"train": rows}, load_tokenizer(encoder), tasks, **options)


def test_rows_are_counted_by_label_and_type(encoder):
    unlabeled = [{**row("a", "y"), "kind": None}, {**row("b", "x"), "spans": None}]
    seen = prepare(encoder, [*ROWS, *unlabeled]).seen_types["spans"]["kind"]
    assert seen == SeenTypes(6, {"a": {"x": 2}, "b": {"y": 1, "x": 1}, "c": {}})
    assert seen.types_by_label == {"a": ["x"], "b": ["x", "y"], "c": []}
    assert (seen.pairs, seen.possible_pairs, seen.has_unseen_pairs) == (3, 6, True)
    assert seen.unseen_share == 3 / 6


def test_the_estimate_of_unseen_pairs_is_near_their_share_in_other_rows():
    # Pair i has probability 2**-(i + 1), so that those of the last 2**-10 of all rows are not seen.
    counts = {f"l{i}": {"x": 2 ** (9 - i)} for i in range(10)}
    rows = sum(2 ** (9 - i) for i in range(10))
    assert SeenTypes(rows, counts).unseen_share == pytest.approx(2 * 2**-10, rel=0.01)


def test_a_given_constraint_gets_its_types_from_train(encoder):
    tasks = [TASKS[0], TaskConfig("spans", "token_classification", constrained_by="kind")]
    prepared = prepare(encoder, ROWS, tasks)
    assert prepared.tasks[1].types_by_label == {"a": ["x"], "b": ["x", "y"], "c": []}
    assert prepared.tasks[1].unseen_types_share == 3 / 6
    (_, hard) = prepare(encoder, ROWS, [TASKS[0], replace(tasks[1], unseen_types_share=0.0)]).tasks
    assert hard.unseen_types_share == 0


def test_types_that_are_given_are_added_to():
    task = TaskConfig("spans", "token_classification", constrained_by="kind", types_by_label={"a": ["z"], "d": []})
    seen = {"kind": SeenTypes(2, {"a": {"x": 1}, "b": {}})}
    assert with_seen_types(task, seen).types_by_label == {"a": ["x", "z"], "d": [], "b": []}
    assert with_seen_types(task, {}) is task


def test_a_constraint_without_rows_that_have_both_labels_is_refused(encoder):
    tasks = [TASKS[0], TaskConfig("spans", "token_classification", constrained_by="kind")]
    rows = [{**item, "spans": None} if i % 2 else {**item, "kind": None} for i, item in enumerate([*ROWS, *ROWS])]
    with pytest.raises(ValueError, match="'spans': constrained_by='kind' has no types_by_label"):
        prepare(encoder, rows, tasks)


def test_an_unknown_task_is_refused_before_training(encoder):
    tasks = [TASKS[0], TaskConfig("spans", "token_classification", constrained_by="knd")]
    with pytest.raises(ValueError, match=r"unknown sequence task 'knd'\. Did you mean 'kind'"):
        prepare(encoder, ROWS, tasks)
