"""Cache keys: a store is found for the same weights, config and rows, and for no others."""

import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch

from hf_multitask import MultiTaskModel, prepare_datasets
from hf_multitask.freezing.activation_cache.cache_key import digest_rows, layer_digests, store_key
from tests.tiny import ROWS

COLUMNS = ["input_ids", "attention_mask"]


def digests(model):
    return layer_digests(model.encoder, model.layer_groups())


def test_digests_change_with_the_weights_below_and_only_with_them(encoder, data, model):
    before = digests(model)
    assert list(before) == ["embeddings", "encoder.0", "encoder.1", "encoder.2", "heads"]
    assert len(set(before.values())) == 5
    assert digests(MultiTaskModel.from_encoder(encoder, data.tasks)) == before
    with torch.no_grad():
        next(iter(model.heads.parameters())).add_(1.0)
        model.requires_grad_(False)
        assert digests(model) == before
        weight = model.encoder.encoder.layer[1].output.dense.bias
        weight[3] = torch.nextafter(weight[3], torch.tensor(torch.inf))
    after = digests(model)
    assert [name for name in before if after[name] != before[name]] == ["encoder.2", "heads"]


def test_digests_change_with_the_config(model):
    before = digests(model)
    model.encoder.config.hidden_act = "relu"
    assert not set(digests(model).values()) & set(before.values())
    model.encoder.config.hidden_act = "gelu"
    model.encoder.config._attn_implementation = "eager"
    assert not set(digests(model).values()) & set(before.values())
    model.encoder.config._attn_implementation = "sdpa"
    model.encoder.config._name_or_path = "elsewhere"
    assert digests(model) == before


def test_the_digest_of_rows_depends_on_the_inputs_of_the_encoder(data):
    train = data["train"]
    digest, lengths = digest_rows(train, COLUMNS)
    assert lengths.tolist() == [len(ids) for ids in train["input_ids"]]
    assert digest_rows(train.remove_columns("labels"), COLUMNS)[0] == digest
    assert digest_rows(train.select(range(len(train))), COLUMNS)[0] == digest
    halves = datasets.concatenate_datasets([train.select(range(9)), train.select(range(9, len(train)))])
    assert digest_rows(halves, COLUMNS)[0] == digest
    others = [
        train.select([1, 0, *range(2, len(train))]),
        train.select(range(len(train) - 1)),
        train.map(lambda row: {"input_ids": [*row["input_ids"][:-1], 3]}),
    ]
    assert len({digest, *(digest_rows(other, COLUMNS)[0] for other in others)}) == 4


def test_where_a_row_ends_counts(data):
    rows = {"input_ids": [[1, 2], [3]], "attention_mask": [[1, 1], [1]]}
    moved = {"input_ids": [[1], [2, 3]], "attention_mask": [[1], [1, 1]]}
    first, second = (digest_rows(datasets.Dataset.from_dict(columns), COLUMNS) for columns in (rows, moved))
    assert first[0] != second[0]
    assert (first[1].tolist(), second[1].tolist()) == ([2, 1], [1, 2])


def test_windows_count(tokenizer, tasks):
    rows = {"train": ROWS}
    tasks = prepare_datasets(rows, tokenizer, tasks).tasks
    columns = [*COLUMNS, "window_lengths"]
    short, long = (prepare_datasets(rows, tokenizer, tasks, max_length=n, overlap=2)["train"] for n in (8, 9))
    assert digest_rows(short, columns)[0] != digest_rows(long, columns)[0]
    assert digest_rows(short, columns)[1].tolist() == [sum(lengths) for lengths in short["window_lengths"]]


def test_padding_in_the_rows_is_no_token_and_an_empty_row_is_one():
    rows = {"input_ids": [[1, 2, 0], [], [4]], "attention_mask": [[1, 1, 0], [], [1]]}
    features = datasets.Features({name: datasets.List(datasets.Value("int32")) for name in rows})
    assert digest_rows(datasets.Dataset.from_dict(rows, features), COLUMNS)[1].tolist() == [2, 1, 1]


def test_rows_without_any(data):
    digest, lengths = digest_rows(data["train"].select([]), COLUMNS)
    assert digest
    assert lengths.dtype == np.int64
    assert len(lengths) == 0


@pytest.mark.slow
def test_keys_are_the_same_in_another_process(encoder, model, data):
    program = (
        "from hf_multitask import *\n"
        "from hf_multitask.freezing.activation_cache.cache_key import *\n"
        "from tests.tiny import ROWS\n"
        "from hf_multitask.models import load_tokenizer\n"
        "tasks = [TaskConfig('intent', 'sequence_classification'), TaskConfig('slots', 'token_classification')]\n"
        f"data = prepare_datasets({{'train': ROWS}}, load_tokenizer({str(encoder)!r}), tasks)\n"
        f"model = MultiTaskModel.from_encoder({str(encoder)!r}, data.tasks)\n"
        f"rows = digest_rows(data['train'], {COLUMNS!r})[0]\n"
        "print(store_key(layer_digests(model.encoder, model.layer_groups())['encoder.2'], rows, 'float32', 'no'))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    rows = digest_rows(data["train"], COLUMNS)[0]
    key = store_key(digests(model)["encoder.2"], rows, "float32", "no")
    assert result.stdout.split()[-1] == key
    assert store_key(digests(model)["encoder.2"], rows, "bfloat16", "no") != key
    assert store_key(digests(model)["encoder.2"], rows, "float32", "bf16") != key
