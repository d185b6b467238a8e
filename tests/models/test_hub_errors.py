"""Files of encoders with other content than the libraries expect."""

import json

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models import load_tokenizer
from tests.tiny import save_tiny_encoder

TASKS = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]


@pytest.fixture
def folder(tmp_path):
    return save_tiny_encoder("bert", tmp_path)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "32"},
        {"num_hidden_layers": None},
        {"num_hidden_layers": 1.5},
        {"vocab_size": [3]},
        {"hidden_act": 3},
        {"model_type": 5},
        {"vocab_size": -5},
        {"num_attention_heads": 0},
        {"max_position_embeddings": "many"},
    ],
    ids=str,
)
def test_a_config_of_wrong_values_is_named(changes, folder):
    edit(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=r".") as error:
        MultiTaskModel.from_encoder(folder, TASKS)
    assert str(folder) in str(error.value)
    assert "config.json" in str(error.value)


@pytest.mark.parametrize("content", ["", "[", "[]", "3", '{"model_type": "bert"', "\xff"])
def test_a_config_that_is_no_config_is_named(content, folder):
    (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config.json") as error:
        MultiTaskModel.from_encoder(folder, TASKS)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", '{"model": 3}'])
def test_a_tokenizer_that_is_none_is_named(content, folder):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match="tokenizer") as error:
        load_tokenizer(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "max_seq_length: expected a whole number above 0"),
        ("sentence_bert_config.json", [3], r"sentence_bert_config.json: expected a mapping, found \[3\]"),
        (
            "sentence_bert_config.json",
            {"max_seq_length": -3},
            "max_seq_length: expected a whole number above 0, found -3",
        ),
    ],
)
def test_odd_lengths_are_named(name, content, message, folder):
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_tokenizer(folder)


def test_weights_that_are_cut_short_are_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or was cut short"):
        MultiTaskModel.from_encoder(folder, TASKS)


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"PK\x03\x04" + b"\x00" * 100])
def test_a_damaged_pickle_is_named(content, folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises((ValueError, OSError), match=r"pytorch_model.bin|pickled"):
        MultiTaskModel.from_encoder(folder, TASKS)


def test_a_pickle_of_other_things_than_tensors_is_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Exception()}, folder / "pytorch_model.bin")
    with pytest.raises((ValueError, OSError), match=r"pytorch_model.bin|pickle"):
        MultiTaskModel.from_encoder(folder, TASKS)
