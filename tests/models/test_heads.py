"""Kinds of heads: they learn, can be saved and loaded, and do not depend on padding or windows."""

import copy

import pytest
import torch

from hf_multitask import MultiTaskDataCollator, MultiTaskModel, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.freezing import freeze
from hf_multitask.models.heads import LayerMix, LSTMHead
from tests.predictions import predict
from tests.tiny import ARCHITECTURES, INTENTS, ROWS, SENTENCES
from tests.trainers import make_trainer

LABELS = {"intent": sorted(set(INTENTS)), "slots": ["O", "B-place", "I-place"]}
KINDS = {
    "lstm": {"head": "lstm"},
    "mix_layers": {"mix_layers": True},
    "crf": {"crf": True},
    "lstm+mix_layers+crf": {"head": "lstm", "mix_layers": True, "crf": True},
}
EVERYTHING = KINDS["lstm+mix_layers+crf"]
all_kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def make_tasks(kind):
    return [
        TaskConfig("intent", "sequence_classification", LABELS["intent"]),
        TaskConfig("slots", "token_classification", LABELS["slots"], **kind),
    ]


def make_model(encoder, kind):
    """Return a model in eval mode whose heads have large weights."""
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, make_tasks(kind)).eval()
    for name, weight in model.heads.named_parameters():
        if "bias" not in name:
            torch.nn.init.normal_(weight, std=1.0)
    return model


def make_batch(encoder, kind, rows=ROWS, **options):
    tokenizer = load_tokenizer(encoder)
    data = prepare_datasets({"train": rows}, tokenizer, make_tasks(kind), **options)
    return MultiTaskDataCollator(tokenizer, data.tasks)(list(data["train"]))


@all_kinds
def test_training_lowers_the_loss_and_predictions_survive_saving(kind, encoder, tokenizer, tmp_path):
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, make_tasks(kind))
    torch.manual_seed(0)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    trainer = make_trainer(
        model, data, tokenizer, tmp_path, None, num_train_epochs=6, learning_rate=3e-3, logging_steps=1, use_cpu=True
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for task in LABELS:
        assert after[f"eval_{task}_loss"] < 0.8 * before[f"eval_{task}_loss"]
    losses = [log["slots_loss"] for log in trainer.state.log_history if "slots_loss" in log]
    assert losses[-1] < losses[0]
    trainer.save_model(tmp_path / "saved")
    loaded = MultiTaskModel.from_pretrained(tmp_path / "saved")
    assert loaded.config.tasks == [task.with_defaults() for task in data.tasks]
    batch = trainer.data_collator(list(data["train"]))
    batch.pop("labels")
    for name, logits in model.eval()(**batch).logits.items():
        assert torch.equal(loaded(**batch).logits[name], logits)
    rows = [{"tokens": row["tokens"]} for row in ROWS]
    assert predict(model, tokenizer, rows) == predict(loaded, tokenizer, rows)


@all_kinds
@torch.no_grad()
def test_results_do_not_depend_on_padding(kind, encoder):
    model = make_model(encoder, kind)
    together = make_batch(encoder, kind)
    logits = model(**together).logits["slots"]
    for i in (0, 3, len(ROWS) - 1):
        alone = make_batch(encoder, kind, [ROWS[i]])
        found = model(**alone)
        words = len(ROWS[i]["tokens"])
        assert torch.allclose(found.logits["slots"][0], logits[i, :words], atol=1e-4)
        one = {name: value[i : i + 1] for name, value in together.items() if name != "labels"}
        one["labels"] = {name: value[i : i + 1] for name, value in together["labels"].items()}
        assert torch.allclose(model(**one).losses["slots"], found.losses["slots"], atol=1e-4)


@torch.no_grad()
def test_the_lstm_reads_words_as_a_bidirectional_one_does():
    task = make_tasks(KINDS["lstm"])[1]
    head = LSTMHead(task, 16, 3).eval()
    whole = torch.nn.LSTM(16, 8, batch_first=True, bidirectional=True)
    for suffix, part in (("", head.forwards), ("_reverse", head.backwards)):
        for name, weight in part.named_parameters():
            getattr(whole, name + suffix).copy_(weight)
    states, counts = torch.randn(4, 5, 16), torch.tensor([5, 1, 3, 4])
    present = torch.arange(5) < counts.unsqueeze(1)
    packed = torch.nn.utils.rnn.pack_padded_sequence(states, counts, batch_first=True, enforce_sorted=False)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(whole(packed)[0], batch_first=True)
    found = head(states, present)
    assert torch.allclose(found[present], head.classifier(expected)[present], atol=1e-5)


@torch.no_grad()
def test_a_word_without_a_subword_brings_nothing_of_another_text_into_the_lstm(encoder):
    model = make_model(encoder, EVERYTHING)
    batch = load_tokenizer(encoder)(SENTENCES[:2], padding=True, return_tensors="pt")
    positions = torch.tensor([[1, -1, 2, 3], [1, 2, -1, 4]])
    both = model(**batch, tag_positions=positions).logits["slots"]
    alone = {name: value[1:] for name, value in batch.items()}
    found = model(**alone, tag_positions=positions[1:]).logits["slots"]
    assert torch.allclose(found[0, [0, 1, 3]], both[1, [0, 1, 3]], atol=1e-4)
    # With windows, the state that replaces a missing one comes from another text.
    windows = torch.tensor([[True, False], [False, True]])
    flat = torch.where(positions < 0, -1, positions + torch.tensor([[0], [batch["input_ids"].size(1)]]))
    cut = model(**batch, tag_positions=flat, row_windows=windows).logits["slots"]
    assert torch.allclose(cut[positions >= 0], both[positions >= 0], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", [KINDS["mix_layers"], EVERYTHING], ids=["mix_layers", "all"])
def test_windows_that_are_encoded_in_parts_give_the_same(kind, encoder):
    model = make_model(encoder, kind)
    row = {**ROWS[1], "tokens": ROWS[1]["tokens"] * 12, "slots": ROWS[1]["slots"] * 12}
    batch = make_batch(encoder, kind, [row, ROWS[0]], max_length=14, overlap=4)
    assert len(batch["input_ids"]) > 8
    in_parts = model(**batch)
    with torch.enable_grad():
        at_once = model(**batch)
    assert in_parts.hidden_states is None
    assert torch.allclose(in_parts.logits["slots"], at_once.logits["slots"], atol=1e-4)
    assert torch.allclose(in_parts.losses["slots"], at_once.losses["slots"], atol=1e-4)
    assert len(model(**batch, output_hidden_states=True).hidden_states) == 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_mixes_its_layers(architecture, encoders):
    source = encoders[architecture]
    model = MultiTaskModel.from_encoder(source, make_tasks(EVERYTHING)).eval()
    batch = load_tokenizer(source)(SENTENCES[:2], padding=True, return_tensors="pt")
    labels = {"intent": torch.tensor([0, 1]), "slots": torch.zeros(batch["input_ids"].shape, dtype=torch.long)}
    model(**batch, labels=labels).loss.backward()
    assert model.heads["slots"].mix.weights.grad.all()
    mixed = model.heads["slots"].mix(model.encoder(**batch, output_hidden_states=True).hidden_states)
    states = model.encoder(**batch, output_hidden_states=True).hidden_states
    assert torch.allclose(mixed, torch.stack(states).mean(0), atol=1e-5)


def test_a_mix_is_of_all_layers_and_scaled():
    mix, states = LayerMix(3), torch.randn(3, 2, 4)
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        mix.scale.fill_(0.5)
    expected = 0.5 * (mix.weights.softmax(0).view(3, 1, 1) * states).sum(0)
    assert torch.allclose(mix(list(states)), expected)
    with pytest.raises(ValueError, match="expected the states of 3 layers, found 2"):
        mix(list(states[:2]))


@all_kinds
def test_every_weight_of_a_head_has_a_gradient_without_labels(kind, encoder):
    model = make_model(encoder, kind).train()
    batch = make_batch(encoder, kind, ROWS[:4])
    labels = batch.pop("labels")
    for given in ({}, {"slots": torch.full_like(labels["slots"], -100)}):
        model.zero_grad()
        model(**batch, labels=given).loss.backward()
        for name, weight in model.heads.named_parameters():
            assert weight.grad is not None, f"DDP would wait for {name}"
            assert not weight.grad.any()


@all_kinds
def test_a_heads_weights_are_one_group(kind, encoder):
    model = make_model(encoder, kind)
    groups = {group.name: set(group.parameters) for group in model.layer_groups()}
    for task in LABELS:
        assert groups[f"head.{task}"] == {name for name, _ in model.named_parameters() if f"heads.{task}." in name}
    freeze(model, ["head.slots"])
    model(**make_batch(encoder, kind, ROWS[:4])).loss.backward()
    assert all(weight.grad is None for weight in model.heads["slots"].parameters())


@all_kinds
def test_weights_that_a_checkpoint_lacks_are_named(kind, encoder, tmp_path):
    make_model(encoder, {}).save_pretrained(tmp_path)
    config = MultiTaskModel.config_class.from_pretrained(tmp_path)
    config.tasks = make_tasks(kind)
    with pytest.raises(ValueError, match=r"the file of weights lacks \d+ of them: heads\.slots\."):
        MultiTaskModel.from_pretrained(tmp_path, config=config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_compute_in_bfloat16(dtype, encoder):
    model = MultiTaskModel.from_encoder(encoder, make_tasks(EVERYTHING), dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        loss = model(**make_batch(encoder, EVERYTHING)).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(weight.grad.isfinite().all() for weight in model.heads.parameters())


def test_a_copy_of_a_model_is_one_of_its_own(encoder):
    model = make_model(encoder, EVERYTHING)
    batch = make_batch(encoder, EVERYTHING)
    expected = model(**batch).logits["slots"]
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert torch.equal(copied(**batch).logits["slots"], expected)


def test_stored_states_are_refused_by_name_where_layers_are_mixed(encoder, tokenizer, tmp_path, caplog):
    model = make_model(encoder, KINDS["mix_layers"])
    with pytest.raises(ValueError, match=r"stored_states: task 'slots' has mix_layers"):
        model(stored_states=torch.zeros(1, 2, 16), entering="heads")
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, model.config.tasks)
    options = {"store_frozen": "always", "store_dir": str(tmp_path / "store"), "max_steps": 2}
    trainer = make_trainer(model, data, tokenizer, tmp_path, ["encoder"], use_cpu=True, **options)
    with caplog.at_level("INFO", logger="hf_multitask"):
        trainer.train()
    assert "mix_layers of task 'slots' needs the states of every layer" in caplog.text


def test_a_protected_head_with_a_crf_is_held(encoder, tokenizer, tmp_path):
    model = make_model(encoder, EVERYTHING)
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, model.config.tasks)
    schedule = {"stages": [{"steps": 2}, {"freeze": ["head.slots"]}], "protect": {"slots": {"distill": 1.0}}}
    options = {"max_steps": 5, "logging_steps": 1, "learning_rate": 1e-3, "use_cpu": True}
    trainer = make_trainer(model, data, tokenizer, tmp_path, schedule, **options)
    trainer.train()
    distances = [log["slots_distill_loss"] for log in trainer.state.log_history if "slots_distill_loss" in log]
    assert len(distances) == 3
    assert distances[-1] > 0
