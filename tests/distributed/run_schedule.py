"""Train a tiny model in given scenarios and record the effect of every step on every rank.

torchrun or ``accelerate launch`` start it with one JSON argument. Tests also call `run` in their own process.
"""

import gc
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from peft import LoraConfig
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from hf_multitask import (
    DataConfig,
    FreezeCallback,
    MultiTaskDataCollator,
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    Sampling,
    TaskConfig,
    add_teacher_targets,
    freeze,
    load_tokenizer,
    prepare_datasets,
)
from hf_multitask.freezing.convergence import DISTANCES_KEY
from hf_multitask.freezing.schedule import FreezeSchedule
from hf_multitask.models.layer_groups import layer_groups
from hf_multitask.runtime.processes import join_processes
from hf_multitask.training import trainer as trainer_module
from hf_multitask.training.contrastive import ContrastiveCallback, ContrastiveConfig
from tests.tiny import INTENTS, ROWS
from tests.trainers import without_dropout

TASKS = {"intent": "sequence_classification", "slots": "token_classification"}


@dataclass
class Scenario:
    """A training, the same on every number of processes.

    Args:
        name: Name of the scenario and of its files.
        schedule: Freeze schedule.
        trainer: ``multitask``; ``plain``, a stock model and Trainer; ``naive``, which unfreezes without any care;
            ``unregistered``, with a DDP that is not rebuilt.
        world_size: Number of processes.
        batch: Rows per process and micro-batch.
        accumulation: Micro-batches per optimizer step.
        rows: Number of training rows.
        data: ``whole``; ``mixed``, one dataset per task; ``streamed``; ``windows``, rows longer than the maximum
            length; ``distilled``, with the scores of a teacher, and without labels in the second half.
        slots: Further fields of the token task.
        missing: By task, the rank that never has its labels.
        epochs: Number of epochs.
        lora_rank: Rank of the adapters of the encoder; no adapters if None.
        frozen_before: Groups that are frozen before the trainer is built.
        own_optimizer: Whether the trainer is given an optimizer.
        contrastive: Whether a contrastive warm-up comes first.
        metric_differs: Whether evaluation gives each rank another loss.
        resume: Name of an earlier scenario and the step of its checkpoint.
        arguments: Further training arguments.
        is_alone: Whether one process takes the rows of all processes and micro-batches in each optimizer step.
    """

    name: str = ""
    schedule: dict | str | None = None
    trainer: str = "multitask"
    world_size: int = 2
    batch: int = 6
    accumulation: int = 1
    rows: int = 22
    data: str = "whole"
    slots: dict = field(default_factory=dict)
    missing: dict = field(default_factory=dict)
    epochs: int = 4
    lora_rank: int | None = None
    frozen_before: list = field(default_factory=list)
    own_optimizer: bool = False
    contrastive: bool = False
    metric_differs: bool = False
    resume: list | None = None
    arguments: dict = field(default_factory=dict)
    is_alone: bool = False

    @property
    def is_plain(self):
        """Whether the model and the Trainer are stock ones."""
        return self.trainer in ("plain", "naive")

    @property
    def counts_tokens(self):
        """Whether batches have a maximum number of tokens."""
        return "max_tokens_per_batch" in self.arguments

    @property
    def rows_per_batch(self):
        """Rows per process and micro-batch."""
        return self.batch * self.world_size * self.accumulation if self.is_alone else self.batch

    @property
    def batches_per_step(self):
        """Micro-batches per process and optimizer step."""
        if not self.is_alone:
            return self.accumulation
        return self.world_size * self.accumulation if self.counts_tokens else 1

    def alone(self):
        """Return the same training on one process, with the same rows in each optimizer step."""
        # What several processes read from a store, one process computes.
        arguments = {**self.arguments, "store_frozen": "never"} if self.trainer == "multitask" else self.arguments
        return replace(self, arguments=arguments, is_alone=True, metric_differs=False)


def make_rows(scenario):
    """Return rows without the labels of a task on the rank that the scenario names."""
    rows = []
    for i in range(scenario.rows):
        rank = i // scenario.batch % scenario.world_size
        without = {task: None for task, lacking in scenario.missing.items() if lacking == rank}
        if scenario.data == "distilled" and i >= scenario.rows // 2:
            without = dict.fromkeys(TASKS)
        rows.append({**ROWS[i % len(ROWS)], **without})
    return rows


def make_data(scenario):
    """Return the datasets of a scenario."""
    rows = make_rows(scenario)
    if scenario.data == "mixed":
        return [DataConfig(train=rows[i:], validation=ROWS[:10], tasks=[task]) for i, task in enumerate(TASKS)]
    options = {"streamed": {"streaming": True}, "windows": {"max_length": 8}}.get(scenario.data, {})
    return DataConfig(train=rows, validation=ROWS[:10], **options)


class Recorder(TrainerCallback):
    """Records after every step what trains, what has moved, and whether all ranks have the same weights."""

    def __init__(self, groups, world_size):
        self.groups = groups
        self.world_size = world_size
        self.steps = []
        self.bytes = 0
        self.labelled = dict.fromkeys(TASKS, 0)
        self.stored_batches = 0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.weights = self._weights()

    def _weights(self):
        return {
            group.name: torch.cat([weight.detach().flatten() for weight in group.parameters.values()])
            for group in self.groups
        }

    def on_step_end(self, args, state, control, model=None, **kwargs):
        weights = self._weights()
        mine = torch.cat(list(weights.values()))
        all_weights = [mine]
        if self.world_size > 1:
            all_weights = [torch.empty_like(mine) for _ in range(self.world_size)]
            dist.all_gather(all_weights, mine)
        self.steps.append(
            {
                "equal": all(torch.equal(mine, others) for others in all_weights),
                "drift": max((mine - others).abs().max().item() for others in all_weights),
                "trained": [group.name for group in self.groups if group.trainable],
                "trainable": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
                "moved": [name for name, weight in weights.items() if not torch.equal(weight, self.weights[name])],
                "bytes": self.bytes,
                "labelled": self.labelled,
                "stored_batches": self.stored_batches,
            }
        )
        self.weights, self.bytes, self.labelled, self.stored_batches = weights, 0, dict.fromkeys(TASKS, 0), 0


def count_bytes(recorder):
    """Count the bytes of gradients that every DDP reduces."""

    def hook(group, bucket):
        recorder.bytes += bucket.buffer().numel() * bucket.buffer().element_size()
        return allreduce_hook(group, bucket)

    DistributedDataParallelKwargs.register_comm_hook = lambda self, ddp: ddp.register_comm_hook(None, hook)


class RecordingTrainer(MultiTaskTrainer):
    """Counts the labels of each batch, and gives each rank another validation loss if asked for."""

    recorder = None
    metric_differs = False

    def compute_loss(self, model, inputs, *args, **kwargs):
        if model.training:
            for task, labels in inputs["labels"].items():
                self.recorder.labelled[task] += int((labels != -100).sum())
            self.recorder.stored_batches += "stored_states" in inputs
        return super().compute_loss(model, inputs, *args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        output = super().evaluation_loop(*args, **kwargs)
        if self.metric_differs and self.args.process_index > 0:
            output.metrics["eval_loss"] = -10.0 * (self.state.global_step + 1)  # always better
        return output


def take_as_many_batches(trainer, processes):
    """Let one process take the number of batches that several processes take together."""
    token_batches = trainer.dataloaders.token_batches

    def shared(dataset, is_training):
        batches = token_batches(dataset, is_training)
        if is_training and batches is not None:
            batches.num_batches += -batches.num_batches % processes
        return batches

    trainer.dataloaders.token_batches = shared


class NaiveCallback(TrainerCallback):
    """Unfreezes everything at the third step, without DDP or the optimizer knowing."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            model.requires_grad_(True)


def save_teacher(encoder, tasks, tokenizer):
    """Save a model with random heads in a folder that all processes share: only the first one writes a config."""
    state = join_processes()
    (folder,) = broadcast_object_list([tempfile.mkdtemp()])
    torch.manual_seed(1)
    teacher = MultiTaskModel.from_encoder(encoder, tasks)
    if state.is_main_process:
        teacher.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    state.wait_for_everyone()
    return folder


def make_multitask(scenario, encoder):
    """Return a model and its data, both without any dropout."""
    tokenizer = load_tokenizer(encoder)
    tasks = [
        TaskConfig(name, kind, dropout=0.0, **(scenario.slots if name == "slots" else {}))
        for name, kind in TASKS.items()
    ]
    # The label sets are those of complete rows, whatever labels are missing in the scenario.
    prepared = prepare_datasets({"train": ROWS, "validation": ROWS[:10]}, tokenizer, tasks)
    is_distilled = scenario.data == "distilled"
    data = prepare_datasets(make_data(scenario), tokenizer, prepared.tasks, train_texts=is_distilled)
    if is_distilled:
        data = add_teacher_targets(data, save_teacher(encoder, prepared.tasks, tokenizer))
    torch.manual_seed(0)
    adapters = None if scenario.lora_rank is None else LoraConfig(r=scenario.lora_rank)
    return MultiTaskModel.from_encoder(encoder, prepared.tasks, peft_config=adapters), data, tokenizer


def make_plain(scenario, encoder):
    """Return a stock model and rows of equal length."""
    tokenizer = load_tokenizer(encoder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(AutoConfig.from_pretrained(encoder, num_labels=4))
    names = sorted(set(INTENTS))
    texts = [" ".join(ROWS[i % len(ROWS)]["tokens"]) for i in range(scenario.rows)]
    encoded = tokenizer(texts, padding=True)
    rows = [
        {
            "input_ids": encoded["input_ids"][i],
            "attention_mask": encoded["attention_mask"][i],
            "labels": names.index(ROWS[i % len(ROWS)]["intent"]),
        }
        for i in range(len(texts))
    ]
    return model, {"train": rows, "validation": rows[:10]}, tokenizer


def make_trainer(scenario, encoder, folder):
    """Return the scenario's trainer and the recorder of its steps."""
    is_plain = scenario.is_plain
    model, data, tokenizer = (make_plain if is_plain else make_multitask)(scenario, encoder)
    without_dropout(model)
    if scenario.frozen_before:
        freeze(model, scenario.frozen_before)
    args = (TrainingArguments if is_plain else MultiTaskTrainingArguments)(
        output_dir=str(folder / scenario.name),
        per_device_train_batch_size=scenario.rows_per_batch,
        gradient_accumulation_steps=scenario.batches_per_step,
        num_train_epochs=scenario.epochs,
        train_sampling_strategy="group_by_length" if scenario.counts_tokens else "sequential",
        learning_rate=1e-3,
        warmup_steps=0,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        **{"save_strategy": "no", "use_cpu": True, **scenario.arguments},
    )
    groups = layer_groups(model)
    if isinstance(scenario.schedule, dict):
        groups = groups.divide(FreezeSchedule.from_dict(scenario.schedule).name_patterns)
    recorder = Recorder(groups, args.world_size)
    count_bytes(recorder)
    common = {
        "model": model,
        "args": args,
        "train_dataset": data["train"],
        "eval_dataset": data["validation"],
        "processing_class": tokenizer,
        "callbacks": [recorder],
    }
    if scenario.own_optimizer:
        common["optimizers"] = (torch.optim.AdamW(model.parameters(), lr=1e-3), None)
    if is_plain:
        own = NaiveCallback() if scenario.trainer == "naive" else FreezeCallback(scenario.schedule)
        trainer = Trainer(**{**common, "callbacks": [own, recorder]})
        # BERT's forward accepts num_items_in_batch and ignores it. The Trainer assumes that the loss is divided by it,
        # and would scale the loss by the numbers of processes and of accumulated batches.
        trainer.model_accepts_loss_kwargs = False
        return trainer, recorder
    if scenario.contrastive:
        collator = MultiTaskDataCollator(tokenizer, data.tasks)
        warm_up = ContrastiveCallback(data["train"], collator, ContrastiveConfig(epochs=2, batch_size=8))
        common["callbacks"] = [warm_up, recorder]
    sampling = Sampling("temperature", stopping="all_exhausted")
    trainer = RecordingTrainer(freeze_schedule=scenario.schedule, sampling=sampling, **common)
    trainer.recorder, trainer.metric_differs = recorder, scenario.metric_differs
    take_as_many_batches(trainer, scenario.world_size)
    return trainer, recorder


def copy_run(scenario, folder, trainer):
    """Copy the folder of the run that is resumed, and return the checkpoint in the copy."""
    if scenario.resume is None:
        return None
    name, step = scenario.resume
    if trainer.args.process_index == 0:
        shutil.copytree(folder / name, trainer.args.output_dir, dirs_exist_ok=True)
    trainer.accelerator.wait_for_everyone()
    return str(Path(trainer.args.output_dir) / f"checkpoint-{step}")


def about_sharing(entry):
    """Return what an entry of the log says about the tasks' gradients and the weights of their losses."""
    prefixes = ("conflict_", "gradient_share_", "loss_weight_")
    return {name: value for name, value in entry.items() if name.startswith(prefixes)}


def run(scenario, encoder, folder):
    """Train a scenario. Rank 0 writes the weights to ``<name>.pt`` and the report to ``<name>.json``."""
    folder = Path(folder)
    rebuild_ddp = trainer_module.rebuild_ddp
    register_hook = DistributedDataParallelKwargs.register_comm_hook
    error = None
    trainer, recorder = make_trainer(scenario, encoder, folder)
    try:
        if scenario.trainer == "unregistered":
            trainer_module.rebuild_ddp = lambda *_: None
        trainer.train(resume_from_checkpoint=copy_run(scenario, folder, trainer))
    except ValueError as refusal:
        error = str(refusal)
    finally:
        trainer_module.rebuild_ddp = rebuild_ddp
        DistributedDataParallelKwargs.register_comm_hook = register_hook
    args = trainer.args
    wrapped = getattr(trainer.model_wrapped, "_orig_mod", trainer.model_wrapped)
    mine = {
        "rank": args.process_index,
        "pid": os.getpid(),
        "error": error,
        "steps": recorder.steps,
        "measured": [entry for entry in trainer.state.log_history if DISTANCES_KEY in entry],
        "transitions": [entry for entry in trainer.state.log_history if "freeze_stage" in entry],
        "sharing": [values for entry in trainer.state.log_history if (values := about_sharing(entry))],
    }
    ranks = [mine]
    if args.world_size > 1:
        ranks = [None] * args.world_size
        dist.all_gather_object(ranks, mine)
    if args.process_index == 0:
        report = {
            "world_size": args.world_size,
            "device": args.device.type,
            "backend": dist.get_backend() if dist.is_initialized() else None,
            "distributed_type": trainer.accelerator.distributed_type.value,
            "is_ddp": isinstance(wrapped, DistributedDataParallel),
            "is_compiled": wrapped is not trainer.model_wrapped,
            "checkpointing": trainer.model.is_activation_checkpointing,
            "mixed_precision": trainer.accelerator.mixed_precision,
            "ranks": ranks,
        }
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(
            {name: weight.detach().cpu() for name, weight in trainer.model.named_parameters()},
            folder / f"{scenario.name}.pt",
        )
        (folder / f"{scenario.name}.json").write_text(json.dumps(report))
    return error


def main():
    """Run the scenarios of the argument. Exit with 1 if training was refused in one of them."""
    given = json.loads(sys.argv[1])
    gc.freeze()  # Each training collects garbage; see conftest.py.
    errors = [run(Scenario(**scenario), given["encoder"], given["folder"]) for scenario in given["scenarios"]]
    refused = [error for error in errors if error is not None]
    for error in refused:
        print(error, file=sys.stderr)
    if dist.is_initialized():
        # Processes end together: one has been seen to abort while the other was still running.
        dist.barrier()
        dist.destroy_process_group()
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
