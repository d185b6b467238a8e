"""Arguments of transformers have their effect in a training in stages; what has none is refused."""

import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch

from hf_multitask import MultiTaskModel, MultiTaskTrainingArguments, TaskConfig, load_tokenizer, prepare_datasets
from hf_multitask.training.argument_checks import NOT_SUPPORTED
from tests.tiny import ROWS
from tests.trainers import make_trainer

DEFAULTS = {
    "num_train_epochs": 2,
    "logging_steps": 1,
    "eval_strategy": "epoch",
    "save_strategy": "no",
    "store_frozen": "never",
    "use_cpu": True,
}


@dataclass
class Training:
    """A trainer after its training, and its log."""

    trainer: object
    folder: object

    @property
    def args(self):
        return self.trainer.args

    @property
    def steps(self):
        return self.trainer.state.global_step

    def logged(self, key):
        """Return the steps and values of an entry of the log."""
        return [(entry["step"], entry[key]) for entry in self.trainer.state.log_history if key in entry]

    @property
    def losses(self):
        return [loss for _, loss in self.logged("loss")]

    @property
    def evaluated(self):
        return [step for step, _ in self.logged("eval_loss")]

    @property
    def checkpoints(self):
        return sorted(int(path.name.removeprefix("checkpoint-")) for path in self.folder.glob("checkpoint-*"))

    @property
    def optimizer(self):
        return self.trainer.optimizer.optimizer


@pytest.fixture(scope="module")
def train(encoder, tmp_path_factory):
    """Return a function that trains a new model in stages."""
    tokenizer = load_tokenizer(encoder)
    tasks = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification")]
    data = prepare_datasets({"train": ROWS, "validation": ROWS[:9]}, tokenizer, tasks)

    def train(schedule="heads-then-all", **arguments):
        folder = tmp_path_factory.mktemp("training")
        torch.manual_seed(0)
        model = MultiTaskModel.from_encoder(encoder, data.tasks)
        trainer = make_trainer(model, data, tokenizer, folder, schedule, **{**DEFAULTS, **arguments})
        trainer.train()
        return Training(trainer, folder)

    return train


@pytest.fixture(scope="module")
def plain(train):
    return train()


def rates(training):
    return [rate for _, rate in training.logged("learning_rate_head.intent")]


# By the arguments of a training: what shows that they have an effect.
EFFECTS = [
    ({"max_steps": 7}, lambda run, plain: run.steps == 7),
    ({"num_train_epochs": 3}, lambda run, plain: run.steps == 18),
    (
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "per_device_eval_batch_size": 3},
        lambda run, plain: (run.steps, len(run.trainer.get_eval_dataloader())) == (8, 3),
    ),
    ({"seed": 1}, lambda run, plain: run.losses != plain.losses),
    ({"data_seed": 7}, lambda run, plain: run.losses != plain.losses),
    ({"train_sampling_strategy": "random"}, lambda run, plain: run.losses != plain.losses),
    ({"length_column_name": "none"}, lambda run, plain: run.losses != plain.losses),
    (
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2.0}},
        lambda run, plain: all(mine < other for mine, other in zip(rates(run)[1:], rates(plain)[1:], strict=True)),
    ),
    ({"learning_rate": 1e-3}, lambda run, plain: rates(run)[0] == pytest.approx(1e-2)),
    ({"warmup_steps": 3}, lambda run, plain: rates(run)[0] < rates(run)[2]),
    ({"weight_decay": 0.5}, lambda run, plain: {0.0, 0.5} == {g["weight_decay"] for g in run.optimizer.param_groups}),
    (
        {"optim": "adamw_torch", "adam_beta1": 0.5, "adam_beta2": 0.6, "adam_epsilon": 1e-3},
        lambda run, plain: run.optimizer.defaults["betas"] == (0.5, 0.6) and run.optimizer.defaults["eps"] == 1e-3,
    ),
    ({"optim": "sgd", "optim_args": "momentum=0.5"}, lambda run, plain: run.optimizer.defaults["momentum"] == 0.5),
    ({"max_grad_norm": 1e-3}, lambda run, plain: run.losses[1:] != plain.losses[1:]),
    ({"neftune_noise_alpha": 5.0}, lambda run, plain: run.losses[-1] != plain.losses[-1]),
    ({"bf16": True}, lambda run, plain: run.losses != plain.losses),
    (
        {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}},
        lambda run, plain: run.trainer.model.is_activation_checkpointing and run.losses == pytest.approx(plain.losses),
    ),
    (
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        lambda run, plain: run.trainer.model.is_activation_checkpointing and run.losses == pytest.approx(plain.losses),
    ),
    ({"use_cache": True}, lambda run, plain: run.losses == plain.losses),
    ({"torch_empty_cache_steps": 1}, lambda run, plain: run.losses == plain.losses),
    ({"logging_strategy": "epoch"}, lambda run, plain: 2 <= len(run.losses) < len(plain.losses)),
    ({"logging_first_step": True, "logging_steps": 50}, lambda run, plain: run.logged("loss")[0][0] == 1),
    (
        {"include_num_input_tokens_seen": "non_padding"},
        lambda run, plain: run.trainer.state.num_input_tokens_seen > 0,
    ),
    ({"logging_nan_inf_filter": True}, lambda run, plain: run.losses == plain.losses),
    ({"skip_memory_metrics": False}, lambda run, plain: run.logged("train_mem_cpu_alloc_delta")),
    (
        {"report_to": "tensorboard", "run_name": "tiny", "project": "tiny", "disable_tqdm": False},
        lambda run, plain: run.losses == plain.losses and list(run.folder.rglob("events.*")),
    ),
    (
        {"log_level": "error", "log_level_replica": "error", "do_train": True, "do_eval": True, "do_predict": True},
        lambda run, plain: run.losses == plain.losses,
    ),
    ({"eval_strategy": "steps", "eval_steps": 5}, lambda run, plain: run.evaluated[:2] == [5, 10]),
    ({"eval_delay": 2}, lambda run, plain: run.evaluated == [12]),
    ({"eval_on_start": True}, lambda run, plain: run.evaluated == [0, 6, 12]),
    (
        {"eval_accumulation_steps": 1, "eval_use_gather_object": True, "include_for_metrics": ["inputs", "loss"]},
        lambda run, plain: (
            [v for _, v in run.logged("eval_slots_f1")] == [v for _, v in plain.logged("eval_slots_f1")]
        ),
    ),
    ({"prediction_loss_only": True}, lambda run, plain: not run.logged("eval_slots_f1") and run.logged("eval_loss")),
    (
        {"save_strategy": "steps", "save_steps": 3, "save_total_limit": 2},
        lambda run, plain: run.checkpoints == [9, 12],
    ),
    (
        {"save_strategy": "best", "metric_for_best_model": "loss", "greater_is_better": True, "save_only_model": True},
        lambda run, plain: run.checkpoints == [6] and not list(run.folder.rglob("optimizer.pt")),
    ),
    (
        {
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": "loss",
            "greater_is_better": True,
        },
        lambda run, plain: run.trainer.state.best_model_checkpoint.endswith("checkpoint-6"),
    ),
    ({"dataloader_drop_last": True}, lambda run, plain: run.steps == 10),
    (
        {
            "dataloader_num_workers": 1,
            "dataloader_persistent_workers": True,
            "dataloader_prefetch_factor": 2,
            "dataloader_multiprocessing_context": "fork",
            "dataloader_in_order": True,
            "dataloader_pin_memory": False,
            "eval_strategy": "no",
        },
        lambda run, plain: run.trainer.get_train_dataloader().prefetch_factor == 2,
    ),
    ({"remove_unused_columns": True, "label_names": ["labels"]}, lambda run, plain: run.evaluated == [6, 12]),
    ({"accelerator_config": {"split_batches": True}}, lambda run, plain: run.losses == plain.losses),
    (
        {
            "ddp_find_unused_parameters": True,
            "ddp_bucket_cap_mb": 1,
            "ddp_broadcast_buffers": False,
            "ddp_timeout": 60,
            "average_tokens_across_devices": False,
        },
        lambda run, plain: run.losses == plain.losses,
    ),
]


@pytest.mark.parametrize(("arguments", "shows"), EFFECTS, ids=["-".join(arguments) for arguments, _ in EFFECTS])
def test_arguments_have_their_effect(arguments, shows, train, plain):
    run = train(**arguments)
    assert all(math.isfinite(loss) for loss in run.losses)
    assert shows(run, plain)


def test_deterministic_algorithms_are_switched_on(train, plain):
    try:
        assert train(full_determinism=True).losses == plain.losses
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("argument", "dtype"), [("bf16_full_eval", torch.bfloat16), ("fp16_full_eval", torch.float16)]
)
def test_weights_are_cast_for_an_evaluation(argument, dtype, train, plain):
    run = train(schedule=None, **{argument: True, "eval_strategy": "no"})
    assert run.trainer.evaluate()["eval_loss"] > 0
    assert run.trainer.model.dtype == dtype


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing_factor", 0.1),
        ("batch_eval_metrics", True),
        ("optim_target_modules", ["query"]),
        ("use_liger_kernel", True),
        ("liger_kernel_config", {"rope": True}),
        ("deepspeed", "zero3.json"),
        ("eval_do_concat_batches", False),
    ],
)
def test_what_would_have_no_effect_is_refused(name, value, tmp_path):
    with pytest.raises(ValueError, match=f"^{name}.* is not supported"):
        MultiTaskTrainingArguments(str(tmp_path), **{name: value})


def test_each_refusal_is_of_a_field():
    assert NOT_SUPPORTED.keys() <= {field.name for field in dataclasses.fields(MultiTaskTrainingArguments)}
