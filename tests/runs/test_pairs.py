"""Pairs of texts in every step: reading, inspection, training, the activation cache, prediction and export."""

import json
import random
from itertools import pairwise

import datasets
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet
from tokenizers import processors
from transformers import PreTrainedTokenizerFast, pipeline
from transformers.pipelines.pt_utils import KeyPairDataset

from hf_multitask import MultiTaskModel, RunConfig, TaskConfig, load_tokenizer, prepare_datasets, run_training
from hf_multitask.cli import main
from hf_multitask.export import export_onnx
from hf_multitask.freezing.activation_cache.cache_key import digest_rows
from hf_multitask.prediction import BulkPrediction
from hf_multitask.runs.evaluation import run_evaluation
from hf_multitask.runs.inspection import inspect_data
from tests.comparison import approximately
from tests.tiny import SENTENCES, SPECIAL, save_tiny_encoder, wordpiece
from tests.trainers import make_trainer

SAME = TaskConfig("same", "sequence_classification")
SLOTS = TaskConfig("slots", "token_classification")
FIRST = ["rain in paris", "play music in london"]
SECOND = ["it rains in paris", "some music by the beatles"]
# No single text determines the label: each text occurs equally often with both labels.
PAIRS = [
    {"text": first, "text_pair": second, "same": "yes" if i == j else "no", "slots": spans}
    for i, first in enumerate(FIRST)
    for j, second in enumerate(SECOND)
    for spans in [[{"start": first.index(" in ") + 4, "end": len(first), "label": "place"}]]
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Return the folder of a tiny encoder whose tokenizer supports pairs, with segment ids."""
    folder = save_tiny_encoder("bert", tmp_path_factory.mktemp("encoder"))
    tokenizer = wordpiece()
    special = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=special
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, model_input_names=names, **SPECIAL)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(encoder):
    return load_tokenizer(encoder)


# Reading


def test_rows_with_and_without_a_second_text_are_read_from_any_source(tokenizer, write_jsonl, tmp_path):
    rows = [*PAIRS, {"text": "rain", "same": "no"}, {"text": "rain", "text_pair": None, "same": "no"}]
    rows = [{name: row.get(name) for name in ("text", "text_pair", "same")} for row in rows]
    csv.write_csv(pa.Table.from_pylist(rows), tmp_path / "rows.csv")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    sources = [
        rows,
        datasets.Dataset.from_list(rows),
        write_jsonl(rows),
        tmp_path / "rows.csv",
        tmp_path / "rows.parquet",
    ]
    expected = [tokenizer(row["text"], row["text_pair"]) for row in rows]
    for source in sources:
        for streaming in (False, True):
            found = list(prepare_datasets({"train": source}, tokenizer, [SAME], streaming=streaming)["train"])
            for name in ("input_ids", "token_type_ids"):
                assert [list(row[name]) for row in found] == [row[name] for row in expected]


def test_a_column_with_a_different_name(tokenizer):
    rows = [{"premise": row["text"], "hypothesis": row["text_pair"], "same": row["same"]} for row in PAIRS]
    columns = {"text": "premise", "text_pair": "hypothesis"}
    data = prepare_datasets({"train": rows}, tokenizer, [SAME], columns=columns)
    assert data["train"][1]["input_ids"] == tokenizer(FIRST[0], SECOND[1])["input_ids"]
    with pytest.raises(ValueError, match=r"columns.text_pair: .*Did you mean 'hypothesis'"):
        prepare_datasets({"train": rows}, tokenizer, [SAME], columns={**columns, "text_pair": "hypotheses"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (3, "'text_pair' must be a string, found 3"),
        (["it", "rains"], r"'text_pair' must be a string, found \['it', 'rains'\]"),
        ("", "'text_pair' is empty; expected at least one word"),
        (" \n", "'text_pair' is empty"),
        ("cut \ud83d", "half of a surrogate pair"),
    ],
)
def test_a_wrong_second_text_is_named(wrong, message, pipe, tokenizer, write_jsonl):
    with pytest.raises(ValueError, match=f"input 1: .*{message}"):
        pipe([PAIRS[0], {"text": "rain", "text_pair": wrong}])
    path = write_jsonl([PAIRS[0], {**PAIRS[1], "text_pair": wrong}])
    with pytest.raises(ValueError, match=f"{path}:2: .*{message}"):
        prepare_datasets({"train": path}, tokenizer, [SAME])


def test_truncated_pairs_are_counted_and_logged(tokenizer, caplog):
    rows = [*PAIRS, {"text": "rain", "text_pair": "play music " * 9, "same": "no"}]
    data = prepare_datasets({"train": rows}, tokenizer, [SAME], max_length=12)
    assert "train: 1 of 5 rows truncated to the maximum length." in caplog.text
    rows = [{**row, "text": row["text"] * 5} for row in PAIRS]
    for max_length, truncated in ((12, 4), (16, 0)):
        data = prepare_datasets({"train": rows}, tokenizer, [SAME], max_length=max_length)
        report = data.reports["train"]
        assert (report.windowed_rows, report.truncated_rows) == (4, truncated)
        assert report.windows == sum(len(row["window_lengths"]) for row in data["train"])


def test_inspection_counts_both_texts(encoder, capsys, monkeypatch, write_jsonl):
    monkeypatch.setenv("COLUMNS", "150")
    rows = [*PAIRS, PAIRS[0], {"text": "rain", "text_pair": "it rains " * 20, "same": "no", "slots": []}]
    values = {
        "encoder": str(encoder),
        "tasks": [SAME.to_dict(), SLOTS.to_dict()],
        "data": {"train": str(write_jsonl(rows)), "max_length": 30},
        "output_dir": "unused",
    }
    split = inspect_data(RunConfig.from_dict(values)).datasets[0].splits["train"]
    assert split.words == sum(len(f"{row['text']} {row['text_pair']}".split()) for row in rows)
    assert split.subword_lengths.total == split.subwords + 3 * len(rows)
    assert (split.repeated.rows, split.repeated.other_labels) == (1, 0)
    assert (split.truncated_rows, split.windowed_rows, split.cut_share) == (1, 0, 1 / 6)
    path = write_jsonl([values])
    assert main(["inspect", str(path), "--rows", "1"]) == 0
    shown = capsys.readouterr().out
    assert "words: rain in paris\n" in shown
    assert "text_pair: it rains in paris\n" in shown
    assert "its subwords: it rain" in shown


# Predictions


@pytest.fixture(scope="module")
def folder(encoder, tokenizer, tmp_path_factory):
    """Return the folder of a model whose random heads are scaled so that they predict many entities."""
    torch.manual_seed(0)
    tasks = [
        TaskConfig(
            "same", "sequence_classification", labels=["no", "yes"], problem_type="single_label_classification"
        ),
        TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x", "B-y", "I-y"]),
    ]
    model = MultiTaskModel.from_encoder(encoder, tasks)
    for head in model.heads.values():
        torch.nn.init.normal_(head.classifier.weight, std=2.0)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline("multi-task", model=str(folder))


LONG = " ".join(SENTENCES)
INPUTS = [
    *({"text": text, "text_pair": pair} for text, pair in pairwise(SENTENCES)),
    {"text": "rain  in\tParis,\u200b Ärger", "text_pair": "rain in Paris"},
    {"text": LONG, "text_pair": "rain in paris"},
    {"text": "rain", "text_pair": LONG},
    {"text": LONG, "text_pair": LONG},
    {"tokens": ["rain", "in", "paris"], "text_pair": "rain in paris"},
    {"text": "rain", "text_pair": None},
    "rain in paris",
]


def test_a_prediction_is_made_from_the_pair_of_the_tokenizer(pipe):
    model, tokenizer = pipe.model, pipe.tokenizer
    encoded = tokenizer("rain in paris", "it rains", return_tensors="pt")
    with torch.no_grad():
        scores = model(**encoded).logits["same"].softmax(-1)[0]
    found = pipe({"text": "rain in paris", "text_pair": "it rains"}, top_k=2)["same"]
    assert {row["label"]: row["score"] for row in found} == {
        "no": pytest.approx(scores[0].item(), abs=1e-6),
        "yes": pytest.approx(scores[1].item(), abs=1e-6),
    }
    assert found != pipe({"text": "rain in paris", "text_pair": "it snows"}, top_k=2)["same"]
    assert pipe({"text": "rain", "text_pair": None}) == pipe("rain")
    assert pipe({"tokens": ["rain"], "text_pair": "it rains"}) == pipe({"text": "rain", "text_pair": "it rains"})


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_results_do_not_depend_on_batches_or_order(pipe, batch_size):
    expected = [pipe(row, batch_size=1) for row in INPUTS]
    order = random.Random(0).sample(range(len(INPUTS)), len(INPUTS))
    found = pipe([INPUTS[i] for i in order], batch_size=batch_size)
    assert found == approximately([expected[i] for i in order], abs=1e-4, rel=1e-4)


def test_every_kind_of_input_has_the_same_result(pipe):
    rows = INPUTS[:7]
    expected = pipe(rows)
    data = datasets.Dataset.from_list(rows)
    pairs = KeyPairDataset(datasets.Dataset.from_list(rows), "text", "text_pair")
    for inputs in ((row for row in rows), data, pairs):
        assert list(pipe(inputs)) == expected
    with pytest.raises(ValueError, match=r"input 0: expected a text, or a mapping .*two texts as text and text_pair"):
        pipe([("rain", "it rains")])


def test_entities_are_slices_of_the_first_text(pipe):
    found = 0
    for row, result in zip(INPUTS[:11], pipe(INPUTS[:11], word_labels=True), strict=True):
        text = row["text"]
        assert len(result["slots"]["words"]) == len(result["slots"]["labels"])
        for entity in result["slots"]["entities"]:
            found += 1
            assert text[entity["start"] : entity["end"]] == entity["text"] != ""
    assert found > 20
    # Also in the second window of a long first text.
    ends = [entity["end"] for entity in pipe(INPUTS[8])["slots"]["entities"]]
    assert max(ends) > len(LONG) * 0.8


def write(path):
    rows = [{"text": row["text"], "other": row["text_pair"]} for row in INPUTS[:7]] + [{"text": "rain", "other": None}]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        table = pa.Table.from_pylist(rows)
        (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, path)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_files_of_pairs(name, folder, pipe, tmp_path):
    model, tokenizer = MultiTaskModel.from_pretrained(folder), load_tokenizer(folder)
    output = tmp_path / "out.jsonl"
    job = BulkPrediction(write(tmp_path / name), output, columns={"text_pair": "other"}, keep=["other"])
    job.run(model, tokenizer)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    expected = [
        {"other": row["text_pair"], **result}
        for row, result in zip(
            [*INPUTS[:7], INPUTS[12]], pipe([*INPUTS[:7], INPUTS[12]], word_labels=True), strict=True
        )
    ]
    assert found == approximately(expected, abs=1e-4, rel=1e-4)


@pytest.mark.slow
def test_an_exported_graph_supports_pairs(folder, pipe):
    export_onnx(folder)
    graph = pipeline("multi-task", model=str(folder), backend="onnx")
    assert graph(INPUTS) == approximately(pipe(INPUTS), abs=1e-4, rel=1e-4)


# Training


def test_a_label_that_depends_on_both_texts_is_learned_from_pairs(encoder, write_jsonl, tmp_path):
    names = {"text": "text", "text_pair": "hypothesis", "same": "same", "slots": "slots"}
    path = write_jsonl([{names[name]: value for name, value in row.items()} for row in PAIRS * 8])
    values = {
        "encoder": str(encoder),
        "tasks": [SAME.to_dict(), SLOTS.to_dict()],
        "data": {
            "train": str(path),
            "validation": str(path),
            "test": str(path),
            "columns": {"text_pair": "hypothesis"},
        },
        "output_dir": str(tmp_path / "model"),
        "training": {
            "num_train_epochs": 20,
            "learning_rate": 5e-3,
            "per_device_train_batch_size": 8,
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
            "disable_tqdm": True,
        },
    }
    metrics = run_training(RunConfig.from_dict(values))["test"]
    assert (metrics["same_accuracy"], metrics["slots_f1"]) == (1.0, 1.0)
    # Without the second texts, each text occurs with both labels.
    assert run_evaluation(values["output_dir"], path)["same_accuracy"] == 0.5
    card = (tmp_path / "model" / "README.md").read_text()
    assert 'pipe({"text": "rain in paris", "text_pair": "it rains in paris"})' in card
    pipe = pipeline("multi-task", model=values["output_dir"])
    for row, result in zip(PAIRS, pipe(PAIRS), strict=True):
        assert result["same"]["label"] == row["same"]
        assert [(found["start"], found["end"]) for found in result["slots"]["entities"]] == [
            (span["start"], span["end"]) for span in row["slots"]
        ]


def losses(trainer):
    return [entry[name] for entry in trainer.state.log_history for name in ("loss", "eval_loss") if name in entry]


def test_cached_states_are_computed_from_both_texts(encoder, tokenizer, tmp_path):
    rows = [*PAIRS, {"text": "rain", "same": "no"}, {**PAIRS[0], "text": LONG}]
    data = prepare_datasets({"train": rows, "validation": rows}, tokenizer, [SAME, SLOTS])
    stages = {"stages": [{"name": "heads", "train": "heads", "epochs": 2}, {"name": "all", "epochs": 1}]}
    arguments = {"num_train_epochs": 3, "logging_steps": 1, "eval_strategy": "epoch", "store_dir": str(tmp_path)}
    found = []
    for mode in ("always", "never"):
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        trainer = make_trainer(model, data, tokenizer, tmp_path / mode, stages, store_frozen=mode, **arguments)
        trainer.train()
        found.append(losses(trainer))
    assert len(found[0]) == 9
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_rows_that_differ_only_in_their_segments_have_different_cache_keys(tokenizer):
    columns = ["input_ids", "token_type_ids", "attention_mask"]
    one = dict(tokenizer(["rain"], ["paris"]))
    other = {**one, "token_type_ids": [[0] * len(one["input_ids"][0])]}
    keys = {digest_rows(datasets.Dataset.from_dict(rows), columns)[0] for rows in (one, other)}
    assert len(keys) == 2
