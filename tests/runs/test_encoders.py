"""Runs with other encoders and tokenizers than the usual ones."""

import json
from dataclasses import replace

import pytest
from transformers import pipeline

from hf_multitask import RunConfig
from hf_multitask.cli.overrides import parse_overrides
from hf_multitask.models import TokenizerConfig, load_model
from hf_multitask.runs import build_trainer, inspect_data, run_training
from hf_multitask.runs.config_file import config_to_yaml
from tests.models.many_encoders import save_any_encoder
from tests.tiny import SENTENCES, make_tokenizer, save_tiny_run

TRAINING = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "disable_tqdm": True}


@pytest.fixture
def config_of(tmp_path):
    """Return a function that writes a run with an encoder of a type and reads its config."""

    def config_of(model_type, **overrides):
        path = save_tiny_run(tmp_path, TRAINING, tmp_path / "out")
        save_any_encoder(model_type, tmp_path / "other")
        return RunConfig.from_file(path, {"encoder": str(tmp_path / "other"), **overrides})

    return config_of


@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_the_encoder_of_an_encoder_decoder_is_trained_in_stages(model_type, config_of, tmp_path):
    """Only the weights of the encoder half are saved."""
    run_training(config_of(model_type, freeze="three-stage"))
    model, tokenizer = load_model(tmp_path / "out")
    assert [group.name for group in model.layer_groups()][:4] == ["embeddings", *(f"encoder.{i}" for i in range(3))]
    assert not [name for name in model.state_dict() if "decoder" in name]
    results = pipeline("multi-task", model=model, tokenizer=tokenizer)(SENTENCES)
    assert set(results[0]) == {"intent", "slots"}


def test_a_decoder_is_trained_with_a_padding_token_from_the_config(config_of, tmp_path):
    config = config_of("gpt2")
    tokenizer = make_tokenizer("wordpiece")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "other")
    for use in (build_trainer, inspect_data):
        with pytest.raises(ValueError, match=r"has no padding token.*`tokenizer: {pad_token: …}`"):
            use(config)
    run_training(replace(config, tokenizer=TokenizerConfig("</s>", "left")))
    saved = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert (saved["pad_token"], saved["padding_side"]) == ("</s>", "left")
    assert "pad_token: </s>" in (tmp_path / "out" / "run.yaml").read_text()
    model, tokenizer = load_model(tmp_path / "out")
    assert tokenizer.pad_token_id == model.config.pad_token_id == 2
    assert model.encode(SENTENCES, tokenizer).isfinite().all()


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("fnet", "depend on the rest of its batch"),
        ("vit", "it reads pixel_values"),
        ("yoso", "depend on the rest"),
    ],
)
def test_an_encoder_that_heads_cannot_share_is_refused_before_data_are_read(model_type, reason, config_of, tmp_path):
    config = config_of(model_type)
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(ValueError, match=f"other: an encoder of type '{model_type}' cannot be used: .*{reason}"):
        build_trainer(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pad_token": 3}, r"pad_token: expected a string or nothing, found 3"),
        ({"pad_token": ""}, r"tokenizer.pad_token is empty"),
        ({"padding_side": "middle"}, r"tokenizer.*unknown padding_side 'middle'.*Allowed: 'right', 'left'"),
        ({"pad": "x"}, r"tokenizer: unknown key 'pad'. Did you mean 'pad_token'"),
        ("left", r"tokenizer: expected a mapping, found 'left'"),
    ],
)
def test_settings_of_the_tokenizer_are_checked(values, message, config_of):
    with pytest.raises(ValueError, match=message):
        config_of("bert", tokenizer=values)


def test_any_setting_of_the_tokenizer_can_be_overridden(config_of):
    overrides = parse_overrides(["--tokenizer.pad_token", "</s>", "--tokenizer.padding_side=left"])
    assert config_of("bert", **overrides).tokenizer == TokenizerConfig("</s>", "left")


def test_a_path_may_be_the_encoder(config_of, tmp_path):
    config = config_of("bert")
    values = {"encoder": tmp_path / "other", "tasks": config.tasks, "data": config.data, "output_dir": tmp_path / "o"}
    assert RunConfig(**values).encoder == str(tmp_path / "other")


def test_a_folder_with_the_encoder_in_a_subfolder_is_written_relative_to_the_config(config_of, tmp_path):
    config_of("bert")
    (tmp_path / "older").mkdir()
    (tmp_path / "other").rename(tmp_path / "older" / "0_Transformer")
    modules = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "older" / "modules.json").write_text(json.dumps(modules))
    config = RunConfig.from_file(tmp_path / "config.yaml", {"encoder": str(tmp_path / "older")})
    assert "encoder: ../older\n" in config_to_yaml(config, tmp_path / "out", "title", [])
