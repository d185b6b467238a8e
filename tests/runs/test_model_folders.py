"""Invalid model folders are refused before anything is computed, and no pickle is read."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from hf_multitask import MultiTaskModel, MultiTaskPipeline, load_tokenizer
from hf_multitask.models import load_model


class Code:
    """Content of a malicious pickle: a call that loading would make."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def edit_config(folder):
    """Return a function that changes config.json."""

    def edit(change):
        values = json.loads((folder / "config.json").read_text())
        change(values)
        (folder / "config.json").write_text(json.dumps(values))

    return edit


def make_pickle(folder, marker):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "code": Code(marker)}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("load", [load_model, MultiTaskModel.from_pretrained, AutoModel.from_pretrained])
def test_pickled_weights_are_refused(load, folder, tmp_path):
    make_pickle(folder, tmp_path / "ran")
    with pytest.raises(ValueError, match=r"model: expected the weights in model.safetensors, found no such file. Pic"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_refused_even_if_asked_for(folder, tmp_path):
    make_pickle(folder, tmp_path / "ran")
    with pytest.raises(ValueError, match=r"are not read, because a pickle can run code"):
        MultiTaskModel.from_pretrained(folder, use_safetensors=False, weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_a_pipeline_refuses_pickled_weights(folder, tmp_path):
    make_pickle(folder, tmp_path / "ran")
    with pytest.raises(ValueError, match="are not read, because a pickle can run code"):
        pipeline("multi-task", model=str(folder))


def test_an_encoders_pickle_runs_no_code(encoder, data, tmp_path):
    # Many encoders on the hub have no other file; torch reads only weights from it.
    shutil.copytree(encoder, tmp_path / "encoder")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "encoder" / "pytorch_model.bin")
    tasks = MultiTaskModel.from_encoder(tmp_path / "encoder", data.tasks).config.tasks
    assert tasks == [task.with_defaults() for task in data.tasks]
    torch.save({**weights, "code": Code(tmp_path / "ran")}, tmp_path / "encoder" / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only|unpickl"):
        MultiTaskModel.from_encoder(tmp_path / "encoder", data.tasks)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 4, 1000])
@pytest.mark.parametrize("load", [load_model, AutoModel.from_pretrained])
def test_a_file_that_was_cut_short_is_named(load, kept, folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or was cut short, copy or download it again"):
        load(folder)


def test_the_shard_that_was_cut_short_is_named(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].write_bytes(shards[1].read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"{shards[1].name} is damaged or was cut short"):
        load_model(tmp_path)


def test_weights_that_are_missing_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("heads.intent.classifier.bias")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"the file of weights lacks 1 of them: heads.intent.classifier.bias"):
        load_model(folder)


@pytest.mark.parametrize("load", [load_model, MultiTaskModel.from_pretrained, lambda folder: pipeline(model=folder)])
def test_a_field_of_a_newer_version(load, folder, edit_config):
    edit_config(lambda values: values["tasks"][0].update(beam=True, layers=2))
    with pytest.raises(
        ValueError, match=r"task 'intent': found 'beam', 'layers', .* was saved by a newer one. Update hf_multitask"
    ):
        load(str(folder))


@pytest.mark.parametrize("load", [load_model, MultiTaskModel.from_pretrained, lambda folder: pipeline(model=folder)])
def test_a_head_of_a_removed_kind(load, folder, edit_config):
    edit_config(lambda values: values["tasks"][1].update(head="mlp"))
    with pytest.raises(
        ValueError, match=r"task 'slots': the head 'mlp' was removed .* Use 'linear' or 'lstm'; a saved"
    ):
        load(str(folder))


def test_another_kind_of_model(encoder):
    with pytest.raises(ValueError, match="bert: expected a multi-task model, found a model of type 'bert'"):
        load_model(encoder)
    with pytest.raises(
        ValueError, match="config: expected the config of a multi-task model, found one of type 'bert'"
    ):
        MultiTaskModel.from_pretrained(encoder)
    with pytest.raises(ValueError, match="model: expected a multi-task model, found a model of type 'bert'"):
        pipeline("multi-task", model=str(encoder))


def test_a_model_without_its_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    for load in (load_model, load_tokenizer):
        with pytest.raises(ValueError, match=r"expected a tokenizer next to the model \(tokenizer.json\), which tok"):
            load(folder)
    with pytest.raises(
        ValueError, match=r"needs the model's tokenizer, found none that can be loaded; tokenizer.save_p"
    ):
        pipeline("multi-task", model=str(folder))


def test_a_pipeline_without_a_tokenizer(model):
    with pytest.raises(ValueError, match="tokenizer: the pipeline needs the model's tokenizer, found none"):
        MultiTaskPipeline(model)


def test_a_config_that_is_no_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json' is not a valid JSON file"):
        load_model(folder)


def test_a_folder_has_no_revision(folder):
    with pytest.raises(ValueError, match=r"revision: is of a model on the hub; .* is a folder"):
        load_model(folder, revision="v1")
