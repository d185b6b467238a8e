"""LoRA of a run: the key ``lora`` of a config."""

import peft
import pytest
import yaml

from hf_multitask import MultiTaskModel, RunConfig, run_training
from hf_multitask.runs.lora import LoraSettings, add_lora
from hf_multitask.runs.training import run_plan
from tests.tiny import save_tiny_run

TRAINING = {"num_train_epochs": 2, "report_to": "none", "disable_tqdm": True, "use_cpu": True}


def config_with(folder, **lora):
    path = save_tiny_run(folder, TRAINING, folder / "out")
    values = yaml.safe_load(path.read_text()) | {"lora": lora}
    path.write_text(yaml.safe_dump(values))
    return RunConfig.from_file(path)


def test_a_run_trains_and_saves_adapters(tmp_path):
    config = config_with(tmp_path, r=4, layers="encoder[-1:]", lora_dropout=0.1)
    run_training(config)
    model = MultiTaskModel.from_pretrained(tmp_path / "out")
    assert model.layer_groups().adapters == ["lora.2"]
    assert model.config.adapters["default"]["r"] == 4
    saved = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert saved["lora"] == {"r": 4, "layers": "encoder[-1:]", "lora_dropout": 0.1}


def test_rates_are_higher_for_adapters(tmp_path):
    with_adapters = run_plan(config_with(tmp_path))[0].learning_rates
    config = config_with(tmp_path)
    config.lora = None
    without = run_plan(config)[0].learning_rates
    assert with_adapters["lora.2"] > without["encoder.2"]
    assert with_adapters["head.slots"] == without["head.slots"]


def test_the_settings_choose_modules(encoders, data):
    def modules(architecture="bert", **settings):
        model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks)
        add_lora(model, LoraSettings(**settings))
        model.follow_adapters()
        assert isinstance(model.encoder.peft_config["default"], peft.LoraConfig)
        return model.config.adapters["default"]["target_modules"]

    assert len(modules()) == 18
    assert len(modules(target_modules=["query", "value"])) == 6
    top = modules(layers="encoder[-1:]", target_modules="all-linear")
    assert len(top) == 6
    assert all(name.startswith("encoder.layer.2.") for name in top)
    assert modules(layers=["encoder.0"], target_modules=["intermediate.dense"]) == [
        "encoder.layer.0.intermediate.dense"
    ]
    assert len(modules("mpnet", layers="encoder.1")) == 6


def test_the_scale_is_twice_the_rank(model):
    add_lora(model, LoraSettings(r=4))
    assert model.encoder.peft_config["default"].lora_alpha == 8


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"r": 0}, "lora.r must be at least 1"),
        ({"rank": 4}, "lora: unknown key 'rank'"),
        ({"r": "eight"}, "lora: r: expected a whole number"),
        ({"lora_dropout": 1.0}, "lora.lora_dropout must be at least 0 and below 1"),
    ],
)
def test_a_wrong_value_is_refused(lora, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config_with(tmp_path, **lora)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"layers": "encoder[9:]"}, r"lora.layers: group 'encoder\[9:\]' selects none of the 3 layers"),
        ({"layers": "heads"}, "lora.layers: expected layers of the encoder"),
        ({"layers": "embeddings"}, "lora.layers: expected layers of the encoder"),
        ({"target_modules": ["querry"]}, "lora.target_modules: unknown module 'querry'. Did you mean 'query'"),
    ],
)
def test_what_selects_nothing_is_refused(lora, message, model):
    with pytest.raises(ValueError, match=message):
        add_lora(model, LoraSettings(**lora))


def test_a_second_adapter_is_refused(model):
    add_lora(model, LoraSettings())
    with pytest.raises(ValueError, match="the model already has an adapter, 'default'; leave lora out"):
        add_lora(model, LoraSettings())
