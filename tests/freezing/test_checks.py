"""Trainings that would not do what the schedule says are refused before the first step."""

from types import SimpleNamespace

import datasets
import pytest
import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from hf_multitask import MultiTaskTrainer, MultiTaskTrainingArguments
from hf_multitask.freezing import (
    Converged,
    FreezeCallback,
    FreezeSchedule,
    FreezeStage,
    OnWorse,
    Protection,
    Until,
    freeze,
)
from hf_multitask.freezing.checks import (
    check_arguments,
    check_fsdp,
    check_optimizer,
    check_replicas,
    looks_for_unused_parameters,
)
from hf_multitask.freezing.run import FreezeRun
from tests.trainers import make_trainer as make_multitask_trainer

TWO_STAGES = {"stages": [{"train": "heads", "steps": 1}, {}]}
WATCHING = {"stages": [{"train": "heads", "until": {"metric": "loss"}}, {}]}
SIZE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}


@pytest.fixture
def stock():
    return BertForSequenceClassification(BertConfig(**SIZE))


@pytest.fixture
def rows():
    ids = torch.randint(0, 20, (12, 6)).tolist()
    return datasets.Dataset.from_list([{"input_ids": row, "labels": i % 2} for i, row in enumerate(ids)])


def weights_of(model):
    return [weight.detach().clone() for weight in model.parameters()]


def train_stock(model, rows, folder, schedule, trainer_arguments=None, **arguments):
    defaults = {"per_device_train_batch_size": 4, "max_steps": 3, "save_strategy": "no", "report_to": "none"}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[FreezeCallback(schedule)],
        **(trainer_arguments or {}),
    )
    trainer.train()
    return trainer


def train_multitask(model, data, tokenizer, folder, schedule, given=None, **arguments):
    trainer = make_multitask_trainer(model, data, tokenizer, folder, schedule, given, max_steps=3, **arguments)
    trainer.train()
    return trainer


def refused(train, model, message):
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        train()
    assert all(torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True))


REFUSED_BY_BOTH = [
    (TWO_STAGES, {"ddp_static_graph": True}, "ddp_static_graph=True does not allow the trained weights to change"),
    (WATCHING, {"eval_strategy": "no"}, "a stage watches a metric, but eval_strategy is 'no'"),
    (
        {"stages": [{"steps": 1, "restore_best": True}, {}]},
        {"metric_for_best_model": "loss"},
        "a stage watches a metric, but eval_strategy is 'no'",
    ),
    (
        {"stages": [{"steps": 1, "restore_best": True}, {}]},
        {"eval_strategy": "epoch"},
        "restore_best needs a metric",
    ),
    (
        {"stages": [{"until": {"metric": "loss", "watch_gap": True}}, {}]},
        {"eval_strategy": "epoch", "logging_strategy": "no"},
        "watch_gap needs the training loss, but logging_strategy is 'no'",
    ),
    ({"stages": [{"steps": 3}, {}]}, {}, "'stage 2' would start at step 3, but the run ends at step 3"),
    ({"stages": [{"steps": 1}, {"steps": 1}]}, {}, "the stages end at step 2, but the run ends at step 3"),
    ({"stages": [{"train": "head.none"}]}, {}, "unknown group 'head.none'"),
    ("gradul", {}, "'gradul' is neither a preset"),
]


@pytest.mark.parametrize(("schedule", "arguments", "message"), REFUSED_BY_BOTH, ids=lambda value: str(value)[:60])
def test_a_plain_trainer_does_not_start(schedule, arguments, message, stock, rows, tmp_path):
    refused(lambda: train_stock(stock, rows, tmp_path, schedule, **arguments), stock, message)


@pytest.mark.parametrize(("schedule", "arguments", "message"), REFUSED_BY_BOTH, ids=lambda value: str(value)[:60])
def test_a_multitask_trainer_does_not_start(schedule, arguments, message, model, data, tokenizer, tmp_path):
    refused(lambda: train_multitask(model, data, tokenizer, tmp_path, schedule, **arguments), model, message)


@pytest.mark.parametrize("frozen", ["encoder", "embeddings", "encoder.1"])
def test_weights_frozen_before_train_would_never_be_updated(frozen, stock, rows, tmp_path):
    freeze(stock, frozen)
    message = rf"group '{frozen if '.' in frozen else 'embeddings'}' is to train, but the optimizer does not contain"
    named = {"stages": [{"train": "heads", "steps": 1}, {"train": ["encoder", "heads"]}]}
    refused(lambda: train_stock(stock, rows, tmp_path, named), stock, message)


@pytest.mark.parametrize("last", [{}, {"freeze": "embeddings"}])
def test_weights_frozen_before_train_may_stay_frozen(last, stock, rows, tmp_path):
    freeze(stock, "embeddings")
    before = stock.get_input_embeddings().weight.clone()
    trainer = train_stock(stock, rows, tmp_path, {"stages": [{"train": "heads", "steps": 1}, last]})
    assert trainer.state.global_step == 3
    assert torch.equal(stock.get_input_embeddings().weight, before)


def test_an_optimizer_given_by_the_user_must_contain_all_weights_that_train(stock, rows, tmp_path):
    some = {"optimizers": (torch.optim.SGD(stock.classifier.parameters(), lr=0.1), None)}
    message = (
        "'embeddings' is to train, but the optimizer does not contain .*An optimizer of your own must contain all"
    )
    refused(lambda: train_stock(stock, rows, tmp_path, TWO_STAGES, some), stock, message)
    whole = {"optimizers": (torch.optim.SGD(stock.parameters(), lr=0.1), None)}
    assert train_stock(stock, rows, tmp_path, TWO_STAGES, whole).state.global_step == 3


def test_an_optimizer_without_the_heads_is_refused_by_the_multitask_trainer(model, data, tokenizer, tmp_path):
    some = {"optimizers": (torch.optim.SGD(model.encoder.parameters(), lr=0.1), None)}
    message = "group 'head.intent' is to train, but the optimizer does not contain 'heads.intent"
    refused(lambda: train_multitask(model, data, tokenizer, tmp_path, TWO_STAGES, some), model, message)


def test_groups_that_no_stage_trains_need_not_be_in_the_optimizer(model):
    optimizer = torch.optim.SGD(model.heads.parameters(), lr=0.1)
    check_optimizer(model.layer_groups(), ["head.intent", "head.slots"], optimizer)
    with pytest.raises(ValueError, match=r"group 'encoder.2' is to train"):
        check_optimizer(model.layer_groups(), ["encoder.2", "head.slots"], optimizer)


@pytest.mark.parametrize(
    ("stage", "others"),
    [
        ({"learning_rate": 1e-3}, {}),
        ({"head_learning_rate": 1e-3}, {}),
        ({"layer_lr_decay": 0.9}, {}),
        ({"warmup_steps": 1}, {}),
        ({"lr_scheduler_type": "linear"}, {}),
        ({"on_worse": {"metric": "loss", "do": "lower_lr", "groups": "heads"}}, {}),
        ({"freeze": "heads"}, {"protect": {"classifier": {"distill": 1}}}),
    ],
    ids=str,
)
def test_rates_by_stage_and_protection_need_the_multitask_trainer(stage, others, stock, rows, tmp_path):
    schedule = {"stages": [stage], **others}
    message = "need MultiTaskTrainer.*found a plain Trainer"
    refused(lambda: train_stock(stock, rows, tmp_path, schedule, eval_strategy="epoch"), stock, message)


def test_gradual_in_a_plain_trainer_works_as_the_message_suggests(stock, rows, tmp_path):
    arguments = {"max_steps": 15}
    message = "{preset: gradual, layer_lr_decay: null}"
    refused(lambda: train_stock(stock, rows, tmp_path, "gradual", **arguments), stock, message)
    schedule = {"preset": "gradual", "layer_lr_decay": None}
    assert train_stock(stock, rows, tmp_path, schedule, **arguments).state.global_step == 15


def test_rates_by_stage_need_a_schedule_of_the_step(model, data, tokenizer, tmp_path):
    arguments = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}
    schedule = {"stages": [{"learning_rate": 1e-4}]}
    message = "need a schedule that is a function of the step; found .*reduce_lr_on_plateau"
    refused(lambda: train_multitask(model, data, tokenizer, tmp_path, schedule, **arguments), model, message)
    assert train_multitask(model, data, tokenizer, tmp_path, TWO_STAGES, **arguments).state.global_step == 3


@pytest.mark.parametrize(
    ("stage", "metric"),
    [
        ({"until": {"metric": "slots_f"}}, None),
        ({"steps": 1, "on_worse": {"metric": "slots_f", "do": "stop"}}, None),
        ({"steps": 1, "restore_best": True}, "eval_slots_f"),
    ],
    ids=str,
)
def test_a_metric_that_evaluation_does_not_have_is_refused_at_once(stage, metric, model, data, tokenizer, tmp_path):
    args = MultiTaskTrainingArguments(
        output_dir=str(tmp_path), eval_strategy="epoch", report_to="none", metric_for_best_model=metric
    )
    message = r"unknown metric 'slots_f'. Did you mean 'slots_f1'.*'intent_accuracy'.*'joint_accuracy'"
    with pytest.raises(ValueError, match=message):
        MultiTaskTrainer(
            model=model,
            args=args,
            freeze_schedule={"stages": [stage, {}]},
            processing_class=tokenizer,
            eval_dataset=data["validation"],
        )


def test_a_metric_that_compute_metrics_does_not_return_is_refused_before_the_first_step(stock, rows, tmp_path):
    metrics = {"compute_metrics": lambda _: {"accuracy": 0.5}}
    schedule = {"stages": [{"train": "heads", "until": {"metric": "acuracy"}}, {}]}
    message = r"unknown metric 'acuracy'. Did you mean 'accuracy'.*'loss'"
    refused(
        lambda: train_stock(stock, rows, tmp_path, schedule, metrics, eval_strategy="epoch"),
        stock,
        message,
    )
    schedule["stages"][0]["until"]["metric"] = "accuracy"
    assert train_stock(stock, rows, tmp_path, schedule, metrics, eval_strategy="epoch").state.global_step == 3


def test_an_optimizer_given_by_the_user_trains_in_stages(model, data, tokenizer, tmp_path):
    whole = {"optimizers": (torch.optim.SGD(model.parameters(), lr=0.1), None)}
    assert train_multitask(model, data, tokenizer, tmp_path, TWO_STAGES, whole).state.global_step == 3


def test_rates_by_stage_need_an_optimizer_with_groups_by_layer(model, data, tokenizer, tmp_path):
    whole = {"optimizers": (torch.optim.SGD(model.parameters(), lr=0.1), None)}
    schedule = {"stages": [{"learning_rate": 1e-3}]}
    message = "freeze schedule: .*optimizer"
    refused(lambda: train_multitask(model, data, tokenizer, tmp_path, schedule, whole), model, message)


def test_metrics_given_by_the_user_are_checked_before_the_first_step(model, data, tokenizer, tmp_path):
    metrics = {"compute_metrics": lambda _: {"accuracy": 0.5}}
    schedule = {"stages": [{"train": "heads", "until": {"metric": "slots_f1"}}, {}]}
    arguments = {"eval_strategy": "epoch"}
    message = "unknown metric 'slots_f1'.*'accuracy'"
    refused(lambda: train_multitask(model, data, tokenizer, tmp_path, schedule, metrics, **arguments), model, message)


def test_a_baseline_in_a_plain_trainer_is_refused_with_what_to_call(stock, rows, tmp_path):
    refused(lambda: train_stock(stock, rows, tmp_path, "all"), stock, "call trainer.evaluate.. without train")


def test_a_second_freeze_callback_is_refused(model, data, tokenizer, tmp_path):
    callbacks = {"callbacks": [FreezeCallback("encoder")]}
    with pytest.raises(ValueError, match=r"found a FreezeCallback; give its schedule as freeze_schedule instead"):
        train_multitask(model, data, tokenizer, tmp_path, None, callbacks)


def test_deepspeed_is_refused():
    # Stands for TrainingArguments, which cannot be built with deepspeed if it is not installed.
    args = SimpleNamespace(ddp_static_graph=False, deepspeed="zero3.json", eval_strategy="no", logging_strategy="no")
    with pytest.raises(ValueError, match=r"DeepSpeed is not supported.*Use DDP or FSDP2"):
        check_arguments(FreezeSchedule([FreezeStage("a")]), args)


def test_fsdp1_with_flattened_weights_is_refused():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=1, use_orig_params=False)
    with pytest.raises(ValueError, match=r"FSDP1 with use_orig_params=False trains what should be frozen"):
        check_fsdp(FreezeSchedule([FreezeStage("a")]), DistributedType.FSDP, plugin)


@pytest.mark.parametrize(
    "schedule",
    [
        FreezeSchedule([FreezeStage("a", steps=1, restore_best=True), FreezeStage("b")]),
        FreezeSchedule([FreezeStage("a", freeze="heads")], {"intent": Protection(1)}),
        FreezeSchedule([FreezeStage("a", until=Until(converged=Converged()))]),
    ],
    ids=["restore_best", "protect", "converged"],
)
@pytest.mark.parametrize("version", [1, 2])
def test_whole_weights_are_refused_under_fsdp(schedule, version):
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=version, **({"use_orig_params": True} if version == 1 else {})
    )
    with pytest.raises(ValueError, match="need whole weights"):
        check_fsdp(schedule, DistributedType.FSDP, plugin)


@pytest.mark.parametrize(
    ("distributed_type", "plugin"),
    [
        (DistributedType.FSDP, {"fsdp_version": 1, "use_orig_params": True}),
        (DistributedType.FSDP, {"fsdp_version": 2}),
        (DistributedType.MULTI_CPU, {"fsdp_version": 1, "use_orig_params": False}),
        (DistributedType.NO, None),
    ],
    ids=str,
)
def test_other_ways_to_shard_are_allowed(distributed_type, plugin):
    plugin = None if plugin is None else FullyShardedDataParallelPlugin(**plugin)
    check_fsdp(FreezeSchedule([FreezeStage("a")]), distributed_type, plugin)


def test_replicas_that_would_drift_apart_are_refused(model):
    groups = model.layer_groups()
    freeze(model, "encoder.1")
    with pytest.raises(
        ValueError, match=r"group 'encoder.1' was frozen when DDP wrapped the model.*would drift apart"
    ):
        check_replicas(groups, ["encoder.1", "head.slots"], world_size=2, find_unused=True)
    check_replicas(groups, ["head.slots"], world_size=2, find_unused=True)
    check_replicas(groups, ["encoder.1"], world_size=1, find_unused=False)


def test_replicas_that_would_wait_for_gradients_of_frozen_weights_are_refused(model):
    with pytest.raises(
        ValueError, match=r"DDP would wait .*ddp_find_unused_parameters=True .*or use MultiTaskTrainer"
    ):
        check_replicas(model.layer_groups(), ["head.slots"], world_size=2, find_unused=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, True),
        ({"activation_checkpointing": True}, False),
        ({"activation_checkpointing": True, "ddp_find_unused_parameters": True}, True),
        ({"ddp_find_unused_parameters": False}, False),
    ],
    ids=str,
)
def test_ddp_looks_for_unused_parameters_unless_activations_are_checkpointed(arguments, expected, stock, tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", **arguments)
    assert looks_for_unused_parameters(args, stock) is expected


def test_a_model_that_checkpoints_its_activations_is_recognized(stock, tmp_path):
    stock.gradient_checkpointing_enable()
    assert not looks_for_unused_parameters(TrainingArguments(output_dir=str(tmp_path), report_to="none"), stock)


def test_arguments_that_fit_are_allowed(tmp_path):
    stages = [
        FreezeStage("a", until=Until("loss", watch_gap=True), on_worse=[OnWorse("loss", "stop")]),
        FreezeStage("b"),
    ]
    check_arguments(FreezeSchedule(stages), TrainingArguments(output_dir=str(tmp_path), eval_strategy="epoch"))


@pytest.mark.parametrize(
    "arguments", [{"ddp_find_unused_parameters": False}, {"activation_checkpointing": True}], ids=str
)
def test_a_plain_trainer_of_several_processes_is_refused_before_the_first_step(
    arguments, stock, rows, tmp_path, monkeypatch
):
    # The check reads nothing but the number: a DDP that does not look for unused weights would wait for ever.
    monkeypatch.setattr(FreezeRun, "check", lambda run: monkeypatch.setattr(type(run.args), "world_size", 2))
    before = weights_of(stock)
    with pytest.raises(ValueError, match="DDP would wait for the gradients of frozen weights"):
        train_stock(stock, rows, tmp_path, TWO_STAGES, **arguments)
    assert all(torch.equal(*pair) for pair in zip(before, weights_of(stock), strict=True))
