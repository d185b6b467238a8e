"""Adapters as layer groups: selectors, presets, schedules, resume, activation cache; what the caller has frozen."""

from dataclasses import replace

import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from hf_multitask import FreezeCallback, MultiTaskDataCollator, MultiTaskModel, MultiTaskTrainer, freeze
from hf_multitask.freezing.presets import build_schedule
from hf_multitask.models.layer_groups import layer_groups
from tests.freezing.test_callback import rows, stock  # noqa: F401
from tests.trainers import make_trainer, without_dropout

ENCODER = ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
LORA = ["lora.0", "lora.1", "lora.2"]
HEADS = ["head.intent", "head.slots"]


@pytest.fixture
def adapted(encoder, data):
    return MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=LoraConfig(r=2))


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def moved_groups(model, before):
    """Return the groups of which all weights have moved; none may have moved in part."""
    moved = []
    for group in layer_groups(model):
        changed = {not torch.equal(weight, before[name]) for name, weight in group.parameters.items()}
        assert len(changed) == 1, group.name
        moved += [group.name] if True in changed else []
    return moved


def train(model, data, tokenizer, folder, schedule, **arguments):
    defaults = {"max_steps": 4, "learning_rate": 1e-2, "weight_decay": 0.1}
    trainer = make_trainer(model, data, tokenizer, folder, schedule, **{**defaults, **arguments})
    before = weights_of(trainer.model)
    trainer.train()
    return trainer, moved_groups(trainer.model, before)


def stages(*trained):
    *first, last = trained
    return {"stages": [*({"train": names, "steps": 2} for names in first), {"train": last}]}


# Groups and selectors.


def test_the_adapters_of_a_layer_are_a_group_above_it(adapted):
    groups = adapted.layer_groups()
    order = ["embeddings", "encoder.0", "lora.0", "encoder.1", "lora.1", "encoder.2", "lora.2", *HEADS]
    assert [group.name for group in groups] == order
    assert [group.name for group in groups if group.trainable] == [*LORA, *HEADS]
    assert groups.layers == ENCODER[1:]
    assert "lora.0-2" in repr(groups)
    for group in groups:
        assert all((".lora_" in name) == group.is_adapter for name in group.parameters)


def test_selectors_of_adapters(adapted):
    groups = adapted.layer_groups().hold_frozen()
    assert groups.select("lora") == LORA
    assert groups.select("lora[-2:]") == LORA[1:]
    assert groups.select("lora.1") == ["lora.1"]
    assert groups.select("all") == [*LORA, *HEADS]
    assert groups.select("heads") == HEADS
    assert groups.select("encoder") == ENCODER
    assert groups.select("encoder[-1:]") == ["encoder.2"]
    assert groups.divide(["*.query.*"]).select("lora.0") == ["lora.0", "lora.0:*.query.*"]


def test_selectors_of_adapters_that_are_not_there(model, encoder, data):
    for selector in ("lora", "lora[-1:]", "lora.0"):
        with pytest.raises(ValueError, match="the encoder has no adapters"):
            model.layer_groups().select(selector)
    upper = LoraConfig(r=2, target_modules=["query"], layers_to_transform=[2], layers_pattern="layer")
    groups = MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=upper).layer_groups()
    assert groups.select("lora") == ["lora.2"]
    with pytest.raises(ValueError, match=r"selects none of the 3 layers of the encoder with adapters: lora.2"):
        groups.select("lora[:2]")
    with pytest.raises(ValueError, match=r"unknown group 'lora.1'.*'lora.2'"):
        groups.select("lora.1")


PRESETS = {
    "none": [[*LORA, *HEADS]],
    "encoder": [HEADS],
    "heads-then-all": [HEADS, [*LORA, *HEADS]],
    "three-stage": [HEADS, ["lora.2", *HEADS], [*LORA, *HEADS]],
    "gradual": [HEADS, ["lora.2", *HEADS], ["lora.1", "lora.2", *HEADS], [*LORA, *HEADS]],
    "progressive": [HEADS, ["lora.2", *HEADS], ["lora.1", "lora.2", *HEADS], [*LORA, *HEADS]],
    "top:2": [["lora.1", "lora.2", *HEADS]],
    "head:intent": [[*LORA, "head.slots"]],
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_unfreeze_adapters_instead_of_layers(preset, adapted):
    groups = adapted.layer_groups().hold_frozen()
    schedule = build_schedule(preset, groups, 3.0)
    assert [stage.trained(groups) for stage in schedule.stages] == PRESETS[preset]


def test_a_preset_of_more_layers_than_have_adapters_is_refused(encoder, data):
    upper = LoraConfig(r=2, target_modules=["query"], layers_to_transform=[1, 2], layers_pattern="layer")
    groups = MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=upper).layer_groups().hold_frozen()
    with pytest.raises(ValueError, match="the encoder has 2 layers with adapters; allowed: top:1 to top:2"):
        build_schedule("top:3", groups, 3.0)


# Training.


def test_the_weights_of_the_encoder_train_only_where_they_are_named(adapted, data, tokenizer, tmp_path):
    _, moved = train(adapted, data, tokenizer, tmp_path, stages("heads", "all"))
    assert moved == [*LORA, *HEADS]
    _, moved = train(adapted, data, tokenizer, tmp_path, stages("lora[-1:]", ["encoder.1", "head.slots"]))
    assert moved == ["encoder.1", "lora.2", "head.slots"]
    assert [group.name for group in adapted.layer_groups() if group.trainable] == [*LORA, *HEADS]


def test_without_a_schedule_adapters_and_heads_train(adapted, data, tokenizer, tmp_path):
    trainer, moved = train(adapted, data, tokenizer, tmp_path, None)
    assert moved == [*LORA, *HEADS]
    (plan,) = trainer.plan()
    assert plan.trained_groups == [*LORA, *HEADS]


def test_the_plan_counts_adapters_and_their_memory(adapted, data, tokenizer, tmp_path):
    trainer = make_trainer(adapted, data, tokenizer, tmp_path, stages("heads", "all"), max_steps=4)
    heads, both = trainer.plan()
    # Query and value of three layers, two matrices of 16 by 2 each.
    assert both.trainable_parameters - heads.trainable_parameters == 3 * 2 * 2 * 16 * 2
    assert both.gradient_bytes == 4 * both.trainable_parameters
    assert both.optimizer_bytes < 2.2 * both.gradient_bytes
    trainer.train()
    kept = [weight for weight, state in trainer.optimizer.state.items() if state]
    assert sum(weight.numel() for weight in kept) == both.trainable_parameters


def test_adapters_have_the_rate_of_their_layer(adapted, data, tokenizer, tmp_path):
    schedule = {"stages": [{"train": ["lora", "heads"], "layer_lr_decay": 0.5}]}
    trainer = make_trainer(adapted, data, tokenizer, tmp_path, schedule, max_steps=1, learning_rate=0.4)
    (plan,) = trainer.plan()
    assert [plan.learning_rates[name] for name in LORA] == pytest.approx([0.1, 0.2, 0.4])


def test_a_head_is_protected_from_adapters_that_train(encoder, data, tokenizer, tmp_path):
    def run(folder, **protect):
        torch.manual_seed(0)
        model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=LoraConfig(r=2)))
        last = {"stages": [{"train": "heads", "steps": 4}, {"train": ["lora", "head.slots"]}], **protect}
        given = {"max_steps": 16, "eval_strategy": "steps", "eval_steps": 4}
        return train(model, data, tokenizer, folder, last, **given)

    trainer, moved = run(tmp_path / "plain")
    assert moved == [*LORA, *HEADS]
    drifts = [entry["eval_drift_tokens"] for entry in trainer.state.log_history if "eval_drift_tokens" in entry]
    assert drifts[-1] > 0
    protected, _ = run(tmp_path / "protected", protect={"intent": {"distill": 5.0}})
    losses = [made.evaluate()["eval_intent_loss"] for made in (trainer, protected)]
    before = next(entry["eval_intent_loss"] for entry in trainer.state.log_history if "eval_intent_loss" in entry)
    assert abs(losses[1] - before) < abs(losses[0] - before)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing_changes_no_update(use_reentrant, encoder, data, tokenizer, tmp_path):
    def run(**arguments):
        torch.manual_seed(0)
        model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=LoraConfig(r=2)))
        train(model, data, tokenizer, tmp_path, "heads-then-all", **arguments)
        return model

    expected = run()
    kwargs = {"use_reentrant": use_reentrant}
    checkpointed = run(activation_checkpointing=True, activation_checkpointing_kwargs=kwargs)
    for name, weight in checkpointed.named_parameters():
        torch.testing.assert_close(weight, expected.get_parameter(name), rtol=1e-5, atol=1e-6)


METHODS = {
    "ia3": peft.IA3Config(),
    "dora": LoraConfig(r=2, use_dora=True),
    "loha": peft.LoHaConfig(r=2, target_modules=["query"]),
    "lokr": peft.LoKrConfig(r=2, target_modules=["query"]),
    "hra": peft.HRAConfig(r=2, target_modules=["query"]),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_in_stages(method, encoder, data, tokenizer, tmp_path):
    model = MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=METHODS[method])
    before = weights_of(model)
    make_trainer(model, data, tokenizer, tmp_path, stages("heads", "all"), max_steps=4, learning_rate=1e-2).train()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert {name for name in moved if name.startswith("encoder.")}
    assert moved <= {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_wrapped_model_trains_with_the_multitask_trainer(model, data, tokenizer, tmp_path):
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["intent"]))
    trainer, moved = train(wrapped, data, tokenizer, tmp_path, "heads-then-all")
    assert trainer.model is model
    assert moved == [*LORA, *HEADS]
    trainer.save_model()
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    saved = model.state_dict()
    assert all(torch.equal(weight, saved[name]) for name, weight in loaded.state_dict().items())
    assert loaded.state_dict().keys() == saved.keys()


def test_a_wrapped_encoder_trains_with_the_multitask_trainer(model, data, tokenizer, tmp_path):
    model.encoder = get_peft_model(model.encoder, LoraConfig(r=2))
    _, moved = train(model, data, tokenizer, tmp_path, "heads-then-all")
    assert moved == [*LORA, *HEADS]


def test_a_function_may_return_wrapped_models(encoder, data, tokenizer, tmp_path):
    def model_init():
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        return get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))

    trainer = make_trainer(None, data, tokenizer, tmp_path, "heads-then-all", {"model_init": model_init}, max_steps=2)
    trainer.train()
    assert trainer.layer_groups.adapters == LORA


def test_adapters_of_heads_and_prompts_are_refused(model, data, tokenizer, tmp_path):
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "classifier"]))
    with pytest.raises(ValueError, match=r"it adapts 'heads.intent.classifier'; only the encoder has adapters"):
        make_trainer(wrapped, data, tokenizer, tmp_path)


# A plain Trainer.


def plain(model, rows, folder, schedule, **arguments):  # noqa: F811
    args = TrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        max_steps=4,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **arguments,
    )
    return Trainer(model, args, train_dataset=rows, callbacks=[FreezeCallback(schedule)])


def wrap(stock):  # noqa: F811
    return get_peft_model(stock, LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))


def test_a_wrapped_model_trains_with_a_plain_trainer(stock, rows, tmp_path):  # noqa: F811
    model = wrap(stock)
    groups = layer_groups(model)
    assert groups.adapters == ["lora.0", "lora.1"]
    assert not any("original_module" in name for group in groups for name in group.parameters)
    before = {name: weight.clone() for name, weight in stock.named_parameters()}
    plain(model, rows, tmp_path, stages("lora[-1:]", "heads")).train()
    assert moved_groups(model, before) == ["lora.1", "head.classifier"]
    assert [group.name for group in layer_groups(model) if group.trainable] == ["lora.0", "lora.1", "head.classifier"]


def test_adapters_of_a_multitask_model_train_with_a_plain_trainer(adapted, data, tokenizer, tmp_path):
    trainer = plain(adapted, data["train"], tmp_path, "heads-then-all", remove_unused_columns=False)
    trainer.data_collator = MultiTaskDataCollator(tokenizer, data.tasks)
    before = weights_of(adapted)
    trainer.train()
    assert moved_groups(adapted, before) == [*LORA, *HEADS]


def test_a_wrapped_multitask_model_trains_with_a_plain_trainer(encoder, data, tokenizer, tmp_path):
    tasks = [replace(task, crf=task.is_token_task) for task in data.tasks]
    model = MultiTaskModel.from_encoder(encoder, tasks)
    config = LoraConfig(r=2, target_modules=["query"], modules_to_save=["intent", "slots"])
    wrapped = get_peft_model(model, config)
    assert list(model.crfs) == ["slots"]
    trainer = plain(
        wrapped, data["train"], tmp_path, stages("heads", ["lora[-1:]", "heads"]), remove_unused_columns=False
    )
    trainer.data_collator = MultiTaskDataCollator(tokenizer, tasks)
    before = weights_of(model)
    trainer.train()
    assert moved_groups(wrapped, before) == ["lora.2", *HEADS]


def test_prompts_are_refused_by_name(tmp_path, rows):  # noqa: F811
    config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20)
    prompts = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    model = get_peft_model(BertForSequenceClassification(config), prompts)
    with pytest.raises(ValueError, match="PREFIX_TUNING learns prompts"):
        plain(model, rows, tmp_path, "heads-then-all")


# What the caller has frozen.


def test_a_schedule_leaves_what_the_caller_has_frozen(model, data, tokenizer, tmp_path):
    freeze(model, ["embeddings", "encoder.0"])
    trainer, moved = train(model, data, tokenizer, tmp_path, "heads-then-all")
    assert moved == ["encoder.1", "encoder.2", *HEADS]
    assert trainer.plan()[-1].trained_groups == moved
    _, moved = train(model, data, tokenizer, tmp_path, "gradual", max_steps=20)
    assert moved == ["encoder.1", "encoder.2", *HEADS]


def test_a_schedule_trains_what_it_names_although_the_caller_has_frozen_it(model, data, tokenizer, tmp_path):
    freeze(model, "encoder")
    _, moved = train(model, data, tokenizer, tmp_path, stages("heads", ["encoder.1", "heads"]))
    assert moved == ["encoder.1", *HEADS]


def test_a_head_that_the_caller_has_frozen_stays_frozen(model, data, tokenizer, tmp_path):
    freeze(model, "head.intent")
    _, moved = train(model, data, tokenizer, tmp_path, "heads-then-all")
    assert moved == [*ENCODER, "head.slots"]


def test_single_weights_that_the_caller_has_frozen_stay_frozen(model, data, tokenizer, tmp_path):
    frozen = model.encoder.embeddings.word_embeddings.weight.requires_grad_(False)
    before = weights_of(model)
    trainer = make_trainer(model, data, tokenizer, tmp_path, "heads-then-all", max_steps=4, learning_rate=1e-2)
    assert "embeddings:frozen" in [group.name for group in trainer.layer_groups]
    trainer.train()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == before.keys() - {"encoder.embeddings.word_embeddings.weight"}
    assert not frozen.requires_grad


def test_what_was_left_frozen_is_logged(model, data, tokenizer, tmp_path, caplog):
    freeze(model, ["embeddings", "encoder.0"])
    with caplog.at_level("INFO", logger="hf_multitask"):
        train(model, data, tokenizer, tmp_path, "heads-then-all")
    assert "embeddings and encoder.0 were frozen before the training and stay so" in caplog.text


class Interrupt(TrainerCallback):
    """Interrupts the training after its first step."""

    def on_step_end(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


def test_what_an_interrupted_schedule_has_frozen_does_not_count_as_frozen(model, data, tokenizer, tmp_path):
    given = {"callbacks": [Interrupt()]}
    trainer = make_trainer(model, data, tokenizer, tmp_path, "heads-then-all", given, max_steps=4)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert all(weight.requires_grad for weight in model.parameters())
    _, moved = train(model, data, tokenizer, tmp_path, "heads-then-all")
    assert moved == [*ENCODER, *HEADS]


def test_a_frozen_selector_of_a_model_with_adapters_leaves_the_encoder(adapted):
    freeze(adapted, "lora.0")
    assert [group.name for group in adapted.layer_groups() if group.trainable] == ["lora.1", "lora.2", *HEADS]
    freeze(adapted, "none")
    assert [group.name for group in adapted.layer_groups() if group.trainable] == [*LORA, *HEADS]


# Resume, moving average, cache.


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_a_resumed_run_ends_with_the_same_bits(ema_decay, encoder, data, tokenizer, tmp_path):
    def make(folder):
        torch.manual_seed(0)
        config = LoraConfig(r=2, lora_dropout=0.1)
        model = MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=config)
        arguments = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "ema_decay": ema_decay}
        schedule = stages("heads", "all", ["encoder.2", "lora"])
        return make_trainer(model, data, tokenizer, folder, schedule, learning_rate=1e-2, **arguments)

    whole = make(tmp_path / "whole")
    whole.train()
    resumed = make(tmp_path / "whole")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    expected = whole.model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in resumed.model.state_dict().items())


class CountingTrainer(MultiTaskTrainer):
    """Counts the batches that start from each group."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.starts = getattr(self, "starts", [])
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.starts.append(inputs.get("entering"))
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_the_cache_serves_below_the_lowest_layer_with_a_trained_adapter(encoder, data, tokenizer, tmp_path):
    def run(store, folder):
        torch.manual_seed(0)
        model = without_dropout(MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=LoraConfig(r=2)))
        trainer = make_trainer(
            model,
            data,
            tokenizer,
            folder,
            stages("lora[-1:]", ["lora[-2:]", "heads"], "all"),
            trainer=CountingTrainer,
            max_steps=6,
            learning_rate=1e-2,
            store_frozen=store,
            store_dtype="float32",
        )
        trainer.train()
        return trainer

    stored = run("always", tmp_path / "stored")
    assert stored.starts == ["encoder.2"] * 2 + ["encoder.1"] * 2 + [None] * 2
    computed = run("never", tmp_path / "computed")
    for name, weight in stored.model.named_parameters():
        torch.testing.assert_close(weight, computed.model.get_parameter(name), rtol=1e-4, atol=1e-5)


def test_the_key_of_cached_states_follows_the_adapter(encoder, data):
    from hf_multitask.freezing.activation_cache.cache_key import layer_digests

    def digests(alpha=2):
        config = LoraConfig(r=2, lora_alpha=alpha)
        model = MultiTaskModel.from_encoder(encoder, data.tasks, peft_config=config)
        for weight in model.layer_groups().parameters_of(["lora.0"]).values():
            torch.nn.init.ones_(weight)
        return layer_digests(model.encoder, model.layer_groups()), model

    first, model = digests()
    assert layer_digests(model.encoder, model.layer_groups()) == first
    assert digests(alpha=4)[0]["encoder.1"] != first["encoder.1"]
    with torch.no_grad():
        next(iter(model.layer_groups().parameters_of(["lora.0"]).values())).add_(1)
    changed = layer_digests(model.encoder, model.layer_groups())
    assert changed["encoder.0"] == first["encoder.0"]
    assert changed["encoder.1"] != first["encoder.1"]
    model.disable_adapters()
    assert layer_digests(model.encoder, model.layer_groups())["encoder.1"] != changed["encoder.1"]
