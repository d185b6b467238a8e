"""A saved model with adapters: what the base has is left out, PEFT's format, loading, checkpoints, exports."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from hf_multitask import MultiTaskConfig, MultiTaskModel, load_tokenizer
from hf_multitask.models import load_model
from tests.models.test_encoder_adapters import METHODS, TASKS, difference, disturb, logits_of, make
from tests.tiny import save_tiny_encoder
from tests.trainers import make_trainer


@pytest.fixture
def base(tmp_path):
    return save_tiny_encoder("bert", tmp_path / "base")


@pytest.fixture
def saved(base, tmp_path):
    """Return the folder of a model with adapters, and its logits."""
    model = disturb(make(base, LoraConfig(r=2)))
    model.save_pretrained(tmp_path / "saved")
    load_tokenizer(base).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved", logits_of(model)


def weights_in(folder):
    return load_file(folder / "model.safetensors")


def test_only_adapters_and_heads_are_saved(saved, base):
    folder, logits = saved
    assert all(name.startswith("heads.") or ".lora_" in name for name in weights_in(folder))
    config = json.loads((folder / "config.json").read_text())
    assert config["base_encoder"]["name_or_path"] == str(base.resolve())
    for loaded in (MultiTaskModel.from_pretrained(folder), AutoModel.from_pretrained(folder), load_model(folder)[0]):
        assert difference(logits_of(loaded), logits) == 0
        assert loaded.name_or_path == str(folder)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_saved_in_the_format_of_peft(method, base, tmp_path):
    model = disturb(make(base, METHODS[method]))
    model.save_pretrained(tmp_path / "saved")
    ids = torch.tensor([[0, 7, 8, 9, 2]])
    with torch.no_grad():
        expected = model.eval().encoder(ids).last_hidden_state
        plain = AutoModel.from_pretrained(base, add_pooling_layer=False)
        read = PeftModel.from_pretrained(plain, tmp_path / "saved", subfolder="adapter-default")
        assert torch.equal(read.eval()(ids).last_hidden_state, expected)
    assert difference(logits_of(MultiTaskModel.from_pretrained(tmp_path / "saved")), logits_of(model)) == 0


def test_the_adapter_names_its_base_and_revision(base, tmp_path):
    model = make(base, LoraConfig(r=2))
    model.save_pretrained(tmp_path / "a")
    values = json.loads((tmp_path / "a" / "adapter-default" / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == str(base.resolve())
    assert values["peft_type"] == "LORA"


def test_folders_of_adapters_that_are_gone_are_removed(saved):
    folder, _ = saved
    model = MultiTaskModel.from_pretrained(folder)
    model.add_adapter(LoraConfig(r=2), "second")
    model.save_pretrained(folder)
    assert {path.name for path in folder.glob("adapter-*")} == {"adapter-default", "adapter-second"}
    model.merge_and_unload().save_pretrained(folder)
    assert not list(folder.glob("adapter-*"))
    assert "adapters" not in json.loads((folder / "config.json").read_text())


def test_weights_of_the_base_that_have_changed_are_saved(base, tmp_path):
    model = disturb(make(base, LoraConfig(r=2)))
    with torch.no_grad():
        model.get_parameter("encoder.encoder.layer.2.output.dense.bias").add_(1)
    logits = logits_of(model)
    model.save_pretrained(tmp_path / "saved")
    assert "encoder.encoder.layer.2.output.dense.bias" in weights_in(tmp_path / "saved")
    loaded = MultiTaskModel.from_pretrained(tmp_path / "saved")
    assert difference(logits_of(loaded), logits) == 0
    loaded.save_pretrained(tmp_path / "again")
    assert weights_in(tmp_path / "again").keys() == weights_in(tmp_path / "saved").keys()


def test_a_model_whose_base_is_not_known_is_saved_as_a_whole(saved, tmp_path):
    folder, logits = saved
    MultiTaskModel.from_pretrained(folder).merge_and_unload().save_pretrained(tmp_path / "whole")
    model = MultiTaskModel.from_pretrained(tmp_path / "whole")
    model.add_adapter(LoraConfig(r=2))
    model.save_pretrained(tmp_path / "again")
    assert any("base_layer" in name for name in weights_in(tmp_path / "again"))
    assert difference(logits_of(MultiTaskModel.from_pretrained(tmp_path / "again")), logits) < 1e-6


def test_the_type_of_the_weights_is_kept(saved):
    folder, logits = saved
    loaded = MultiTaskModel.from_pretrained(folder, dtype=torch.bfloat16)
    assert loaded.encoder.dtype == torch.bfloat16
    assert difference({name: value.float() for name, value in logits_of(loaded).items()}, logits) < 0.1


# A load that leaves any weight random is an error.


def test_a_base_that_is_gone_or_another_is_refused(saved, base):
    folder, _ = saved
    weights = load_file(base / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"] += 1
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"its adapters belong to the encoder .*base, which has other weights now"):
        MultiTaskModel.from_pretrained(folder)
    shutil.rmtree(base)
    with pytest.raises(
        ValueError, match=r"the encoder that its adapters belong to cannot be loaded\. .*does not exist"
    ):
        MultiTaskModel.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["lora_A", "lora_B", "heads.slots"])
def test_a_missing_weight_is_refused(kind, saved):
    folder, _ = saved
    kept = {name: weight for name, weight in weights_in(folder).items() if kind not in name}
    assert len(kept) < len(weights_in(folder))
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="the file of weights lacks"):
        MultiTaskModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="the file of weights lacks"):
        AutoModel.from_pretrained(folder)


def test_a_missing_weight_of_a_whole_model_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    kept = {name: weight for name, weight in weights_in(tmp_path).items() if "layer.1.output" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 4 of them: encoder.encoder.layer.1.output.LayerNorm.bias"):
        MultiTaskModel.from_pretrained(tmp_path)
    _, info = MultiTaskModel.from_pretrained(tmp_path, output_loading_info=True)
    assert len(info["missing_keys"]) == 4


# Checkpoints of a Trainer.


def test_checkpoints_contain_no_base_and_the_best_is_loaded(base, data, tokenizer, tmp_path, caplog):
    model = MultiTaskModel.from_encoder(base, data.tasks, peft_config=LoraConfig(r=2))
    # The base changes after the first checkpoint, which is the best.
    last = {"train": ["encoder.2", "heads"], "head_learning_rate": 30.0}
    schedule = {"stages": [{"train": ["heads", "lora"], "epochs": 1}, last]}
    trainer = make_trainer(
        model,
        data,
        tokenizer,
        tmp_path / "run",
        schedule,
        num_train_epochs=2,
        learning_rate=1e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    trainer.train()
    first, second = sorted((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert trainer.state.best_model_checkpoint == str(first)
    assert not any("layer.2.output" in name for name in weights_in(first))
    assert any("layer.2.output" in name for name in weights_in(second))
    expected = MultiTaskModel.from_pretrained(first).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())
    assert "missing keys" not in caplog.text


def test_weights_of_heads_alone_are_loaded_as_they_are(base):
    model = disturb(make(base, LoraConfig(r=2)))
    with torch.no_grad():
        changed = model.get_parameter("encoder.encoder.layer.2.output.dense.bias").add_(1).clone()
    heads = {name: weight + 1 for name, weight in model.state_dict().items() if name.startswith("heads.")}
    result = model.load_state_dict(heads, strict=False)
    assert result.missing_keys
    assert torch.equal(model.get_parameter("encoder.encoder.layer.2.output.dense.bias"), changed)


# Everything that reads a model.


def test_the_pipeline_and_the_embeddings(saved):
    folder, _ = saved
    model = MultiTaskModel.from_pretrained(folder)
    text = "play some music in paris"
    expected = pipeline("multi-task", model=model, tokenizer=load_tokenizer(folder))(text)
    assert pipeline("multi-task", model=str(folder))(text) == expected
    whole = MultiTaskModel.from_pretrained(folder).merge_and_unload()
    torch.testing.assert_close(whole.encode(text, load_tokenizer(folder)), model.encode(text), rtol=0, atol=1e-6)


def test_exports_contain_merged_weights(saved, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder, _ = saved
    model = MultiTaskModel.from_pretrained(folder)
    stock = model.export_task("slots", tmp_path / "stock").eval()
    ids = torch.tensor([[0, 7, 8, 9, 2]])
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).logits["slots"]
        assert (stock(ids).logits - expected).abs().max() < 1e-6
    model.export_encoder(tmp_path / "sentences")
    found = SentenceTransformer(str(tmp_path / "sentences"), device="cpu").encode("play music", convert_to_tensor=True)
    torch.testing.assert_close(found, model.encode("play music"), rtol=0, atol=1e-6)
    assert model.active_adapters() == ["default"]


def test_the_graph_contains_merged_weights(saved):
    import onnx

    from hf_multitask.export.onnx_export import export_onnx

    folder, _ = saved
    (file,) = export_onnx(folder)
    assert file.difference < 1e-5
    assert not any("lora" in weight.name for weight in onnx.load(file.path).graph.initializer)


def test_the_config_of_a_model_without_adapters_does_not_name_them(model, tmp_path):
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert not {"adapters", "active_adapter", "base_encoder"} & values.keys()
    assert MultiTaskConfig.from_pretrained(tmp_path).adapters == {}


@pytest.mark.slow
def test_adapters_of_minilm_take_less_than_a_mebibyte(tmp_path):
    from tests.conftest import MINILM

    model = MultiTaskModel.from_encoder(MINILM, TASKS, peft_config=LoraConfig(r=8))
    logits = logits_of(disturb(model))
    with model.saved_without_code():
        model.save_pretrained(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2**20
    assert json.loads((tmp_path / "config.json").read_text())["base_encoder"]["name_or_path"] == MINILM
    assert difference(logits_of(MultiTaskModel.from_pretrained(tmp_path)), logits) == 0
