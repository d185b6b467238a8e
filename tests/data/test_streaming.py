"""Streamed training rows: the same order with any number of processes and workers, and exact resume."""

import itertools
import json

import datasets
import pytest
import torch

from hf_multitask import DataConfig, MultiTaskModel, RunConfig, Sampling, TaskConfig, prepare_datasets
from hf_multitask.data import StreamBatches, TrainingStream, streaming
from hf_multitask.data.streaming import identity
from tests.tiny import ROWS
from tests.trainers import make_trainer

NAMES = ["place", "song"]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(streaming, "SHUFFLE_ROWS", 5)


@pytest.fixture
def stream(tokenizer, tasks, write_jsonl):
    return prepare_datasets({"train": write_jsonl(ROWS)}, tokenizer, tasks, streaming=True)


@pytest.fixture
def two(tokenizer, tasks, write_jsonl):
    """Return 22 rows with intents and 9 with slots, as two streamed datasets."""
    configs = [
        DataConfig(train=str(write_jsonl(ROWS)), tasks=["intent"], streaming=True),
        DataConfig(train=ROWS[:9], tasks=["slots"], streaming=True),
    ]
    return prepare_datasets(configs, tokenizer, tasks)


def batches_of(data, sampling=None, count=10, state=None, **options):
    options = {"seed": 3, "batch_size": 4, **options}
    batches = StreamBatches(data["train"], list_rows, sampling or Sampling(), **options)
    if state is not None:
        batches.load_state_dict(state)
    return list(itertools.islice(batches, count))


def list_rows(rows):
    return {"rows": [(tuple(row["input_ids"]), json.dumps(row["labels"])) for row in rows]}


def rows_of(batches):
    return [row for batch in batches for row in batch["rows"]]


def test_a_stream_prepares_each_row_as_the_whole_file_does(stream, data):
    streamed = list(stream["train"])
    assert isinstance(stream["train"], TrainingStream)
    assert [task.labels for task in stream.tasks] == [task.labels for task in data.tasks]
    assert [row["input_ids"] for row in streamed] == data["train"]["input_ids"][:]
    assert [row["labels"] for row in streamed] == data["train"]["labels"][:]
    assert [row["tag_positions"] for row in streamed] == data["train"]["tag_positions"][:]


def test_each_pass_has_each_row_once_in_a_different_order(stream):
    rows = rows_of(batches_of(stream, count=11))
    passes = [rows[:22], rows[22:]]
    whole = sorted(rows_of([list_rows(list(stream["train"]))]))
    assert [sorted(one) for one in passes] == [whole, whole]
    assert passes[0] != passes[1]
    assert passes[0] != rows_of([list_rows(list(stream["train"]))])


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_rows_do_not_depend_on_the_number_of_processes(two, processes):
    sampling = Sampling("temperature")
    one = batches_of(two, sampling, count=6, batch_size=6)
    by_process = [
        batches_of(two, sampling, count=6, batch_size=6 // processes, num_processes=processes, process_index=i)
        for i in range(processes)
    ]
    assert [rows_of(batches) for batches in zip(*by_process, strict=True)] == [batch["rows"] for batch in one]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_batches_do_not_depend_on_the_number_of_workers(two, workers):
    batches = StreamBatches(two["train"], list_rows, Sampling("uniform"), seed=3, batch_size=4)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=identity)
    made = list(itertools.islice(loader, 7))
    assert rows_of(made) == rows_of(batches_of(two, Sampling("uniform"), count=7))


@pytest.mark.parametrize("after", [1, 3, 5, 6, 9])
def test_a_stream_resumes_exactly_after_any_batch(two, after):
    # Blocks of 5 rows, passes of 22 and 9: states are within blocks, at their ends, and after passes.
    sampling = Sampling("uniform")
    whole = batches_of(two, sampling, count=14)
    state = json.loads(json.dumps(whole[after - 1]["stream"]["state"]))
    resumed = batches_of(two, sampling, count=14, state=state)
    assert resumed[:after] == [None] * after
    assert rows_of(resumed[after:]) == rows_of(whole[after:])


def test_the_mix_has_the_shares_of_its_strategy(two):
    def shares(*sampling):
        labels = [json.loads(labels) for _, labels in rows_of(batches_of(two, Sampling(*sampling), 500))]
        return sum(label["intent"] != -100 for label in labels) / len(labels)

    assert shares("uniform") == pytest.approx(0.5, abs=0.01)
    assert shares("proportional") == pytest.approx(22 / 31, abs=0.01)
    assert shares("temperature", 2.0) == pytest.approx(22**0.5 / (22**0.5 + 3), abs=0.01)


def test_iterable_datasets_stream_with_names_of_labels_and_columns(tokenizer):
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-place", "I-place"])),
        }
    )
    rows = {"words": [["in", "paris"], ["new", "york"], ["now"]] * 5, "tags": [[0, 1], [1, 2], [0]] * 5}
    source = datasets.Dataset.from_dict(rows, features=features).to_iterable_dataset(num_shards=3)
    task = TaskConfig("ner", "token_classification")
    columns = {"tokens": "words", "ner": "tags"}
    streamed = prepare_datasets({"train": source}, tokenizer, [task], columns=columns)
    assert streamed.tasks[0].labels == ["O", "B-place", "I-place"]
    assert [row["labels"]["ner"] for row in streamed["train"]] == [[0, 1], [1, 2], [0]] * 5
    whole = batches_of(streamed)
    resumed = batches_of(streamed, state=whole[3]["stream"]["state"])
    assert rows_of(resumed[4:]) == rows_of(whole[4:])


def test_nothing_is_read_beforehand_if_the_tasks_are_complete(tokenizer, data, tmp_path):
    path = tmp_path / "later.jsonl"
    path.write_text("")
    streamed = prepare_datasets({"train": path}, tokenizer, data.tasks, streaming=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert len(rows_of(batches_of(streamed))) == 40


def test_a_stream_counts_what_happens_to_its_rows(tokenizer, tasks, data, caplog):
    rows = [*ROWS, {"tokens": ["a", "\u200b"], "intent": "Unknown", "slots": ["I-place", "O"]}]
    streamed = prepare_datasets({"train": rows}, tokenizer, data.tasks, streaming=True, unseen_labels="ignore")
    report = batches_of(streamed, batch_size=23, count=1)[0]["stream"]["report"]
    assert (report.rows, report.lost_words, report.unseen_labels["intent"].total()) == (23, 1, 1)
    assert report.broken_tags["slots"] == 1


def test_an_error_in_a_stream_names_the_line(tokenizer, data, write_jsonl):
    path = write_jsonl([*ROWS, {"tokens": ["a", "b"], "intent": "RateBook", "slots": ["O"]}])
    streamed = prepare_datasets({"train": path}, tokenizer, data.tasks, streaming=True)
    with pytest.raises(ValueError, match=r"rows\.jsonl:23: column 'slots': .*found 1 tags for 2 tokens"):
        batches_of(streamed)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "train: expected at least one row, found none"),
        (ROWS, {"validation_split": 0.5}, "validation_split needs all rows of train"),
        ([{"text": "a", "intnt": "x"}], {}, "unknown column 'intnt'|unknown column 'intent'. Did you mean 'intnt'"),
    ],
)
def test_a_stream_that_cannot_train_is_refused(rows, options, message, tokenizer, tasks):
    with pytest.raises(ValueError, match=message):
        prepare_datasets({"train": rows}, tokenizer, tasks, streaming=True, **options)


def test_validation_cannot_be_split_off_if_another_dataset_is_streamed(tokenizer, tasks):
    configs = [DataConfig(train=ROWS, streaming=True), DataConfig(train=ROWS, validation_split=0.2)]
    with pytest.raises(ValueError, match="validation_split needs all rows of train, and another dataset is streamed"):
        prepare_datasets(configs, tokenizer, tasks)


def test_balanced_class_weights_need_all_rows(tokenizer):
    task = TaskConfig("intent", "sequence_classification", class_weights="balanced")
    with pytest.raises(ValueError, match="needs all rows of train in memory, which a stream"):
        prepare_datasets({"train": ROWS}, tokenizer, [task], streaming=True)


def test_a_streamed_run_needs_its_number_of_steps(tmp_path):
    values = {
        "encoder": "a",
        "tasks": [{"name": "intent", "type": "sequence_classification"}],
        "data": {"train": "a.jsonl", "streaming": True},
        "output_dir": str(tmp_path),
    }
    with pytest.raises(ValueError, match=r"training\.max_steps is missing: with data\.streaming"):
        RunConfig.from_dict(values)
    assert RunConfig.from_dict({**values, "training": {"max_steps": 3}}).data_configs[0].streaming


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_training_resumes_with_equal_bits(two, data, tokenizer, encoder, tmp_path, workers, caplog):
    def train(folder, **options):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, two.tasks)
        arguments = {"max_steps": 9, "dataloader_num_workers": workers, "logging_steps": 2, **options}
        splits = {"train": two["train"], "validation": None}
        given = {"sampling": Sampling("temperature")}
        return make_trainer(model, splits, tokenizer, folder, "three-stage", given, save_total_limit=None, **arguments)

    whole = train(tmp_path, save_strategy="steps", save_steps=4)
    with caplog.at_level("INFO"):
        whole.train()
    assert sum(int(rows.replace(",", "")) for rows in _rows_trained_on(caplog)) == 36
    resumed = train(tmp_path / "resumed", num_train_epochs=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    for name, weight in resumed.model.state_dict().items():
        assert torch.equal(weight, whole.model.state_dict()[name]), name
    rows = [
        {key: entry.get(key) for key in ("step", "intent_rows", "slots_rows")} for entry in whole.state.log_history
    ]
    assert rows == [
        {key: entry.get(key) for key in ("step", "intent_rows", "slots_rows")} for entry in resumed.state.log_history
    ]


def _rows_trained_on(caplog):
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Rows trained on")]
    return [part.split()[-1].rstrip(".") for part in line.split(", ")] if ", " in line else []
