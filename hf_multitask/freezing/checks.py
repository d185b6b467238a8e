"""Checks, run before the first step, that the trainer will do what the schedule says."""

from collections.abc import Iterable

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from transformers import PreTrainedModel, TrainingArguments

from ..models.layer_groups import LayerGroups
from .schedule import FreezeSchedule


def check_arguments(schedule: FreezeSchedule, args: TrainingArguments) -> None:
    """Check the arguments of the trainer.

    Args:
        schedule: The schedule.
        args: Arguments of the trainer.

    Raises:
        ValueError: If the schedule does not work with an argument. The message says what to set instead.
    """
    if schedule.is_baseline:
        raise ValueError(
            "freeze schedule: it is a baseline, in which nothing trains; call trainer.evaluate() without train()."
        )
    if args.ddp_static_graph:
        raise ValueError(
            "freeze schedule: ddp_static_graph=True does not allow the trained weights to change; unset it."
        )
    if args.deepspeed is not None:
        raise ValueError(
            "freeze schedule: DeepSpeed is not supported: no run has shown that weights frozen at first are updated "
            "later. Use DDP or FSDP2."
        )
    if schedule.needs_evaluation and args.eval_strategy == "no":
        raise ValueError(
            "freeze schedule: a stage watches a metric, but eval_strategy is 'no'; set 'epoch' or 'steps'."
        )
    if schedule.watches_gap and args.logging_strategy == "no":
        raise ValueError("freeze schedule: watch_gap needs the training loss, but logging_strategy is 'no'.")


def check_fsdp(
    schedule: FreezeSchedule, distributed_type: DistributedType, plugin: FullyShardedDataParallelPlugin | None
) -> None:
    """Check the way in which FSDP shards the weights.

    Args:
        schedule: The schedule.
        distributed_type: Distributed type of accelerate.
        plugin: FSDP settings of accelerate.

    Raises:
        ValueError: If frozen weights would train, or a stage needs weights that are not sharded.
    """
    if distributed_type != DistributedType.FSDP or plugin is None:
        return
    if plugin.fsdp_version == 1 and not plugin.use_orig_params:
        raise ValueError(
            "freeze schedule: FSDP1 with use_orig_params=False trains what should be frozen; set it to True, or use "
            "fsdp_version 2."
        )
    needs_whole_weights = any(stage.restore_best or stage.converged is not None for stage in schedule.stages)
    if schedule.protect or needs_whole_weights:
        raise ValueError(
            "freeze schedule: restore_best, protect and `until: {converged: …}` need whole weights and do not work "
            "under FSDP."
        )


def check_optimizer(groups: LayerGroups, scheduled: Iterable[str], optimizer: torch.optim.Optimizer) -> None:
    """Check that the optimizer contains every weight that a stage trains.

    Args:
        groups: Layer groups of the model.
        scheduled: Names of the groups that any stage trains.
        optimizer: The optimizer.

    Raises:
        ValueError: If a weight is missing. It would never be updated, and no error would say so.
    """
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    scheduled = set(scheduled)
    for group in groups:
        missing = [name for name, parameter in group.parameters.items() if id(parameter) not in known]
        if group.name in scheduled and missing:
            raise ValueError(
                f"freeze schedule: group {group.name!r} is to train, but the optimizer does not contain "
                f"{missing[0]!r}, so it would never be updated. Do not freeze weights before train(): the Trainer's "
                "optimizer leaves them out. An optimizer of your own must contain all parameters."
            )


def check_replicas(groups: LayerGroups, scheduled: Iterable[str], world_size: int, find_unused: bool) -> None:
    """Check that a DDP which is not rebuilt at each stage keeps the replicas equal.

    Args:
        groups: Layer groups of the model, as they were when DDP wrapped it.
        scheduled: Names of the groups that any stage trains.
        world_size: Number of processes.
        find_unused: DDP's ``find_unused_parameters``.

    Raises:
        ValueError: If there are several processes and a group was frozen when DDP wrapped the model, so the replicas
            would drift apart, or DDP does not look for unused parameters, so it would wait for missing gradients.
    """
    if world_size < 2:
        return
    scheduled = set(scheduled)
    for group in groups:
        if group.name in scheduled and not all(weight.requires_grad for weight in group.parameters.values()):
            raise ValueError(
                f"freeze schedule: group {group.name!r} was frozen when DDP wrapped the model, so that its gradients "
                "would not be reduced and the replicas would drift apart. Leave freezing to the schedule."
            )
    if not find_unused:
        raise ValueError(
            "freeze schedule: DDP would wait for the gradients of frozen weights. Set ddp_find_unused_parameters=True "
            "(the Trainer's default without activation checkpointing), or use MultiTaskTrainer."
        )


def looks_for_unused_parameters(args: TrainingArguments, model: PreTrainedModel) -> bool:
    """Return whether the Trainer lets DDP look for unused parameters, by the Trainer's own rule."""
    if args.ddp_find_unused_parameters is not None:
        return args.ddp_find_unused_parameters
    return not (model.is_activation_checkpointing or args.activation_checkpointing)
