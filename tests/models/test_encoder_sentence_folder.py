"""Settings of sentence embeddings in folders of sentence-transformers."""

import json

import pytest

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models.encoder_sentence_folder import SentenceSettings, read_sentence_settings
from tests.tiny import save_tiny_encoder

TASKS = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]


@pytest.mark.parametrize(
    ("settings", "normalize", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True, SentenceSettings("mean", True)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, False, SentenceSettings("cls", False)),
        ({"pooling_mode_max_tokens": True}, False, SentenceSettings("max", False)),
        ({"pooling_mode": "cls"}, True, SentenceSettings("cls", True)),
        ({"pooling_mode": ["max"]}, False, SentenceSettings("max", False)),
    ],
)
def test_the_folders_own_pooling_is_read(settings, normalize, expected, tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens", normalize=normalize)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    assert read_sentence_settings(str(tmp_path)) == expected
    config = MultiTaskModel.from_encoder(tmp_path, TASKS).config
    assert (config.pooling, config.normalize_embeddings) == (expected.pooling, expected.normalize)


def test_an_encoder_without_modules_pools_by_mean(encoder):
    assert read_sentence_settings(str(encoder)) == SentenceSettings("mean", False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_mode": "lasttokens"}, "unknown pooling mode 'lasttokens'"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, r"unknown pooling mode 'mean\+max'"),
    ],
)
def test_a_pooling_that_is_not_supported_is_refused(settings, message, tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        MultiTaskModel.from_encoder(tmp_path, TASKS)
    assert MultiTaskModel.from_encoder(tmp_path, TASKS, pooling="mean").config.pooling == "mean"


def test_a_module_that_is_not_supported_is_refused(tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.append({"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="asks for the module 'Dense'"):
        MultiTaskModel.from_encoder(tmp_path, TASKS)


def test_an_unknown_pooling_is_refused(encoder):
    with pytest.raises(ValueError, match=r"unknown pooling 'men'. Did you mean 'mean'"):
        MultiTaskModel.from_encoder(encoder, TASKS, pooling="men")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "1_Pooling/config.json",
            None,
            "expected the pooling in 1_Pooling/config.json, which modules.json names, found no",
        ),
        ("1_Pooling/config.json", "[]", r"expected the pooling in 1_Pooling/config.json, .* found \[\]"),
        ("1_Pooling/config.json", "{", "1_Pooling/config.json is damaged"),
        ("1_Pooling/config.json", '{"pooling_mode": 3}', "unknown pooling mode '3'"),
        ("modules.json", "{}", "expected a list of modules with `type` and `path` in modules.json, found {}"),
        ("modules.json", "[3]", r"expected a list of modules .* found \[3\]"),
        ("modules.json", '[{"type": "x.Pooling"}]', "expected a list of modules"),
        ("modules.json", "\x00", "modules.json is damaged"),
        ("modules.json", '[{"idx": 0, "path": "", "type": "x.Dense"}]', "asks for the module 'x.Dense'"),
    ],
)
def test_odd_files_of_a_sentence_transformers_folder_are_named(name, content, message, tmp_path):
    save_tiny_encoder("bert", tmp_path, pooling="mean_tokens")
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        MultiTaskModel.from_encoder(tmp_path, TASKS)
    assert str(tmp_path) in str(error.value)
