"""The model, on every supported architecture."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel

from hf_multitask import MultiTaskConfig, MultiTaskModel, TaskConfig, load_tokenizer
from tests.tiny import ARCHITECTURES, SENTENCES, save_tiny_encoder

TASKS = [
    TaskConfig("intent", "sequence_classification", labels=["a", "b", "c"]),
    TaskConfig("topics", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification"),
    TaskConfig("grade", "sequence_classification", problem_type="regression"),
    TaskConfig("slots", "token_classification", labels=["O", "B-x", "I-x"]),
    TaskConfig("pos", "token_classification", labels=["O", "B-y", "I-y"], constrained_decoding=False),
]


@pytest.fixture
def batch(encoder):
    encoded = load_tokenizer(encoder)(SENTENCES[:3], padding=True, return_tensors="pt")
    return {**encoded, "tag_positions": torch.tensor([[1, 2, 3], [1, -1, 2], [2, -1, -1]])}


@pytest.fixture
def labels():
    return {
        "intent": torch.tensor([0, 2, -100]),
        "topics": torch.tensor([[0.0, 1.0], [1.0, 1.0], [float("nan")] * 2]),
        "grade": torch.tensor([[0.5], [float("nan")], [2.0]]),
        "slots": torch.tensor([[0, 1, 2], [0, -100, 1], [0, -100, -100]]),
        "pos": torch.tensor([[0, 0, 0], [0, 0, 0], [1, -100, -100]]),
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_model_stands_alone_and_gives_the_same_logits(architecture, tmp_path):
    source = save_tiny_encoder(architecture, tmp_path / "encoder")
    tokenizer = load_tokenizer(source)
    model = MultiTaskModel.from_encoder(source, TASKS).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    before = model(**batch).logits
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(source)

    loaded = AutoModel.from_pretrained(tmp_path / "saved")

    assert type(loaded) is MultiTaskModel
    assert not loaded.training
    after = loaded(**batch).logits
    assert list(after) == [task.name for task in TASKS]
    for task in TASKS:
        assert torch.equal(before[task.name], after[task.name])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_from_encoder_keeps_the_encoders_weights_and_drops_its_pooler(architecture, encoders):
    untouched = AutoModel.from_pretrained(encoders[architecture])
    model = MultiTaskModel.from_encoder(encoders[architecture], TASKS)
    expected = {name: value for name, value in untouched.state_dict().items() if not name.startswith("pooler.")}
    kept = model.encoder.state_dict()
    assert kept.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(kept[name], value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_encode_gives_the_untouched_encoders_embedding(architecture, tmp_path):
    source = save_tiny_encoder(architecture, tmp_path, pooling="mean_tokens", normalize=True)
    untouched, tokenizer = AutoModel.from_pretrained(source).eval(), load_tokenizer(source)
    model = MultiTaskModel.from_encoder(source, TASKS).train()
    for sentence, embedding in zip(SENTENCES, model.encode(SENTENCES, batch_size=3), strict=True):
        with torch.no_grad():
            states = untouched(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(0), dim=0)
        assert torch.allclose(embedding, expected, atol=1e-6)
    assert model.training


def test_encode_equals_sentence_transformers_on_the_real_encoder():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = MultiTaskModel.from_encoder("sentence-transformers/all-MiniLM-L6-v2", TASKS)
    sentences = [*SENTENCES, "", "a long text " * 200]
    untouched = sentence_transformers.SentenceTransformer(model.name_or_path, device="cpu")
    expected = torch.tensor(untouched.encode(sentences))
    assert torch.allclose(model.encode(sentences), expected, atol=1e-6)
    assert model.encode(sentences[0]).shape == (384,)
    assert model.encode([]).shape == (0, 384)


def test_the_encoder_runs_once_for_all_tasks(encoder, batch, labels):
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    model(**batch, labels=labels).loss.backward()
    assert len(calls) == 1


def test_the_loss_is_the_weighted_sum_of_the_tasks_means(encoder, batch, labels):
    tasks = [TaskConfig.from_dict({**task.to_dict(), "loss_weight": i + 0.5}) for i, task in enumerate(TASKS)]
    output = MultiTaskModel.from_encoder(encoder, tasks).eval()(**batch, labels=labels)
    expected = sum(task.loss_weight * output.losses[task.name] for task in tasks)
    assert torch.allclose(output.loss, expected)
    logits = output.logits["slots"]
    by_hand = torch.nn.functional.cross_entropy(logits[labels["slots"] >= 0], labels["slots"][labels["slots"] >= 0])
    assert torch.allclose(output.losses["slots"], by_hand)
    grade = output.logits["grade"][[0, 2], 0]
    assert torch.allclose(output.losses["grade"], ((grade - torch.tensor([0.5, 2.0])) ** 2).mean())
    topics = torch.nn.functional.binary_cross_entropy_with_logits(output.logits["topics"][:2], labels["topics"][:2])
    # The mean over rows and labels, as for any other task: a label is an item.
    assert torch.allclose(output.losses["topics"], topics)


@pytest.mark.parametrize("missing", TASKS, ids=lambda task: task.name)
def test_a_task_without_labels_has_loss_zero_and_no_nan(missing, encoder, batch, labels):
    nothing = torch.full_like(labels[missing.name], float("nan") if labels[missing.name].is_floating_point() else -100)
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    for given in ({**labels, missing.name: nothing}, {k: v for k, v in labels.items() if k != missing.name}):
        model.zero_grad()
        output = model(**batch, labels=given)
        assert output.losses[missing.name].item() == 0
        output.loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"DDP would wait for {name}"
            assert parameter.grad.isfinite().all()
        assert not any(parameter.grad.any() for parameter in model.heads[missing.name].parameters())


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_resets_every_gradient(set_to_none, encoder, batch, labels):
    tasks = [*TASKS, TaskConfig("names", "token_classification", labels=["O", "B-x"], crf=True, mix_layers=True)]
    model = MultiTaskModel.from_encoder(encoder, tasks)
    model(**batch, labels={**labels, "names": torch.zeros_like(labels["slots"])}).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    model.zero_grad(set_to_none)
    for name, weight in model.named_parameters():
        assert weight.grad is None if set_to_none else not weight.grad.any(), name


def test_without_tag_positions_every_token_is_a_word(encoder, batch):
    positions = batch.pop("tag_positions")
    model = MultiTaskModel.from_encoder(encoder, TASKS).eval()
    every = model(**batch).logits["slots"]
    assert every.shape == (*batch["input_ids"].shape, 3)
    some = model(**batch, tag_positions=positions).logits["slots"]
    assert torch.allclose(some[0], every[0, [1, 2, 3]], atol=1e-6)


def test_weights_are_saved_under_encoder_and_heads(encoder, tmp_path):
    MultiTaskModel.from_encoder(encoder, TASKS).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        keys = set(file.keys())
    assert {key for key in keys if not key.startswith("encoder.")} == {
        f"heads.{task.name}.classifier.{kind}" for task in TASKS for kind in ("weight", "bias")
    }


def test_the_config_comes_back_with_its_tasks(encoder, tmp_path):
    config = MultiTaskModel.from_encoder(encoder, TASKS, pooling="max").config
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is MultiTaskConfig
    assert loaded.tasks == [task.with_defaults() for task in TASKS]
    assert loaded.pooling == "max"
    assert loaded.encoder_config.model_type == "bert"


def test_new_heads_are_initialised_and_differ_from_each_other(encoder):
    model = MultiTaskModel.from_encoder(encoder, TASKS)
    assert not torch.equal(model.heads["slots"].classifier.weight, model.heads["pos"].classifier.weight)
    assert 0 < model.heads["intent"].classifier.weight.std() < 0.1
    assert not model.heads["intent"].classifier.bias.any()


def test_missing_weights_of_the_encoder_are_initialised_by_its_own_class(tmp_path):
    model = MultiTaskModel.from_encoder(save_tiny_encoder("modernbert", tmp_path), TASKS)

    loaded = MultiTaskModel.from_pretrained(None, config=model.config, state_dict={})

    # ModernBERT cuts its normal distribution there; hundreds of weights exceed it otherwise.
    config = loaded.config.encoder_config
    cut = config.initializer_cutoff_factor * config.initializer_range
    matrices = [weight for weight in loaded.encoder.parameters() if weight.dim() == 2]
    assert all(0 < weight.abs().max() <= cut for weight in matrices)


def test_outputs_as_a_tuple_and_hidden_states_on_request(encoder, batch):
    model = MultiTaskModel.from_encoder(encoder, TASKS).eval()
    logits, hidden_states = model(**batch, output_hidden_states=True, return_dict=False)
    assert logits.keys() == {task.name for task in TASKS}
    assert len(hidden_states) == 4


def test_activation_checkpointing_changes_no_gradient(encoder, batch, labels):
    model = MultiTaskModel.from_encoder(encoder, TASKS).eval()
    model(**batch, labels=labels).loss.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing_enable()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model(**batch, labels=labels).loss.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_attention_can_be_chosen_and_the_encoder_uses_it(encoder, tmp_path):
    model = MultiTaskModel.from_encoder(encoder, TASKS, attn_implementation="eager")
    assert model.encoder.config._attn_implementation == "eager"
    model.save_pretrained(tmp_path)
    for choice in ("eager", "sdpa"):
        loaded = MultiTaskModel.from_pretrained(tmp_path, attn_implementation=choice)
        assert loaded.encoder.config._attn_implementation == choice


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="more than one is called intent"):
        MultiTaskConfig(tasks=[TASKS[0], TASKS[0]])


def test_a_task_without_labels_is_refused(encoder):
    with pytest.raises(ValueError, match="task 'intent' has no labels yet"):
        MultiTaskModel.from_encoder(encoder, [TaskConfig("intent", "sequence_classification")])


def test_a_saved_model_names_the_encoder_as_it_was_given(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(encoder).parent)
    model = MultiTaskModel.from_encoder("./bert", TASKS)
    assert model.config.to_dict()["encoder_config"]["_name_or_path"] == "./bert"
