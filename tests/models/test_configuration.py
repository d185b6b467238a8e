"""The config as a composite config of transformers: what is the encoder's, and what is asked of the outputs."""

import pytest
import torch
from transformers import AutoConfig

from hf_multitask import MultiTaskConfig, MultiTaskModel, TaskConfig
from tests.tiny import ARCHITECTURES

INTENT = TaskConfig("intent", "sequence_classification", labels=["a", "b", "c"])
SLOTS = TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"])
GRADE = TaskConfig("grade", "sequence_classification", problem_type="regression")
SHARED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "pad_token_id",
)
INPUT_IDS = torch.tensor([[0, 7, 9, 2], [0, 5, 2, 1]])


@pytest.fixture
def folder(encoder, tmp_path):
    """Return the folder of a saved model, one of whose heads mixes the states of all layers."""
    mixing = TaskConfig("mixed", "token_classification", labels=["O", "B-x", "I-x"], mix_layers=True)
    MultiTaskModel.from_encoder(encoder, [INTENT, SLOTS, mixing]).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_and_tokens_are_those_of_the_encoder(architecture, encoders):
    config = MultiTaskModel.from_encoder(encoders[architecture], [INTENT]).config
    encoder = AutoConfig.from_pretrained(encoders[architecture])
    assert {name: getattr(config, name) for name in SHARED} == {name: getattr(encoder, name) for name in SHARED}
    assert config.get_text_config() is config.encoder_config


def test_a_size_that_is_set_is_the_encoders_and_saved_only_there():
    config = MultiTaskConfig(tasks=[INTENT])
    config.vocab_size = 77
    assert config.encoder_config.vocab_size == 77
    assert "vocab_size" not in config.to_dict()


def test_a_size_that_no_encoder_config_has_is_no_attribute():
    config = MultiTaskConfig(encoder_config={"model_type": "t5"}, tasks=[INTENT])
    assert not hasattr(config, "max_position_embeddings")


def test_a_size_in_the_config_of_an_older_version_is_the_embeddings():
    saved = MultiTaskConfig(tasks=[INTENT]).to_dict()
    assert MultiTaskConfig.from_dict({**saved, "vocab_size": 450}).encoder_config.vocab_size == 450


def test_the_tokenizers_padding_token_in_the_config_of_an_older_version_changes_no_position():
    saved = MultiTaskConfig(encoder_config={"model_type": "roberta"}, tasks=[INTENT]).to_dict()
    assert MultiTaskConfig.from_dict({**saved, "pad_token_id": 5}).pad_token_id == 1


@pytest.mark.parametrize(
    ("tasks", "labels"),
    [
        ([INTENT], ["a", "b", "c"]),
        ([SLOTS], ["O", "B-x", "I-x"]),
        ([GRADE], ["LABEL_0"]),
        ([INTENT, SLOTS], None),
        ([], None),
    ],
)
def test_labels_are_those_of_the_only_task(tasks, labels, tmp_path):
    MultiTaskConfig(tasks=tasks).save_pretrained(tmp_path)
    for config in (MultiTaskConfig(tasks=tasks), MultiTaskConfig.from_pretrained(tmp_path)):
        assert config.num_labels == (None if labels is None else len(labels))
        assert config.id2label == (None if labels is None else dict(enumerate(labels)))
        assert config.label2id == (None if labels is None else {label: i for i, label in enumerate(labels)})


def test_labels_follow_tasks_that_are_added_and_removed(encoder):
    model = MultiTaskModel.from_encoder(encoder, [INTENT])
    model.add_task(SLOTS)
    assert model.config.id2label is None
    model.remove_task("intent")
    assert model.config.id2label == {0: "O", 1: "B-x", 2: "I-x"}


def test_a_number_of_labels_can_be_set_as_in_any_config():
    config = MultiTaskConfig(num_labels=5)
    assert len(config.id2label) == 5
    config.num_labels = 3
    assert len(config.label2id) == 3


def test_outputs_that_the_config_asks_for_are_returned(folder):
    model = MultiTaskModel.from_pretrained(folder, output_hidden_states=True, output_attentions=True)
    output = model(INPUT_IDS)
    assert len(output.hidden_states) == 4
    assert len(output.attentions) == 3
    output = model(INPUT_IDS, output_hidden_states=False, output_attentions=None)
    assert output.hidden_states is None
    assert len(output.attentions) == 3


def test_the_states_of_some_layers_are_returned_where_a_head_mixes_all(folder):
    model = MultiTaskModel.from_pretrained(folder)
    every, some = (model(INPUT_IDS, output_hidden_states=layers) for layers in (True, [0, -1]))
    assert [states is None for states in some.hidden_states] == [False, True, True, False]
    for index in (0, 3):
        torch.testing.assert_close(some.hidden_states[index], every.hidden_states[index])
    torch.testing.assert_close(some.logits, every.logits)


def test_a_tuple_is_returned_if_the_config_says_so(folder):
    model = MultiTaskModel.from_pretrained(folder, return_dict=False)
    assert isinstance(model(INPUT_IDS), tuple)
    assert set(model(INPUT_IDS, return_dict=True).logits) == {"intent", "slots", "mixed"}
