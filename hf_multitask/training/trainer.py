"""The Trainer for several tasks on one encoder."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy, PredictionOutput, TrainOutput, has_length

from ..data import DATASET_COLUMN, MultiTaskDataCollator, PreparedData, Sampling, TrainingStream
from ..freezing import FreezeCallback, FreezeSchedule, FreezeSpec, FreezeStage, MultiTaskFreezeCallback
from ..freezing.activation_cache.cache import ActivationCache, CacheHooks, NoCache
from ..freezing.activation_cache.cache_plan import ALWAYS, NEVER
from ..freezing.callback import count_steps_per_epoch
from ..freezing.distillation import count_items, drift_sample
from ..freezing.hooks import FreezeHooks
from ..freezing.plan import StagePlan, plan_stages
from ..freezing.rates import peak_rates, trained_rates
from ..freezing.replay import check_watched_metrics
from ..models import MultiTaskModel, MultiTaskOutput, TaskConfig
from ..models.decoding import decode
from ..models.hub_card import CARD_NAME, HERE, build_model_card
from ..models.hub_errors import explain_upload_errors
from ..models.losses import count_labeled, example_losses
from ..models.type_aliases import Batch
from ..runtime.precision import log_precision
from ..runtime.training_history import LEARNING_RATE_PREFIX, TrainingHistory
from .arguments import MultiTaskTrainingArguments
from .card_facts import training_facts
from .dataloaders import TrainerDataLoaders, as_arrays, check_training_rows, restore_row_order
from .ddp import rebuild_ddp
from .ema import EMACallback, refuse_averaged
from .metrics import build_compute_metrics, task_metric_names
from .tracking import TrackingCallback

logger = logging.getLogger(__name__)


class MultiTaskTrainer(Trainer):
    """``transformers.Trainer`` for a `MultiTaskModel`.

    It adds losses by task that accumulation, padding and missing labels do not change, learning rates by layer group,
    predictions reduced to label ids on the device, metrics by task, batches of like length, and freezing in stages
    with a DDP that reduces only what trains.

    Args:
        model: The model. Where its tasks are changed later, it needs a new trainer: this one refuses it.
        args: The arguments.
        freeze_schedule: What trains when; what `freezing.build_schedule` takes: a schedule, a preset's name, groups
            that are frozen throughout, a file, a mapping. What the model has frozen stays so where None.
        sampling: How much the training takes of each of several datasets that were prepared together.
        kwargs: All else that ``Trainer`` takes. ``data_collator`` and ``compute_metrics`` are made from the model's
            tasks where they are not given.

    Raises:
        ValueError: If the schedule does not fit the model, or ``max_tokens_per_batch`` the training rows.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: MultiTaskModel,
        args: MultiTaskTrainingArguments,
        freeze_schedule: FreezeSpec | None = None,
        sampling: Sampling | None = None,
        **kwargs: Any,
    ) -> None:
        self.tasks = model.config.tasks
        self.layer_groups = model.layer_groups()
        if any(isinstance(callback, FreezeCallback) for callback in kwargs.get("callbacks") or []):
            raise ValueError("callbacks: found a FreezeCallback; give its schedule as freeze_schedule instead.")
        self.freeze_callback = MultiTaskFreezeCallback(
            "none" if freeze_schedule is None else freeze_schedule, self.layer_groups, self._freeze_hooks()
        )
        self._has_schedule = freeze_schedule is not None
        if self._has_schedule:
            # Before anything is made. How many steps an epoch has is not known yet; only a run of `max_steps`, or of
            # a fraction of an epoch, has another length than this.
            metric = args.metric_for_best_model
            schedule = self.freeze_callback.build_schedule(self.layer_groups, args.num_train_epochs, metric)
            if kwargs.get("compute_metrics") is None:
                check_watched_metrics(schedule, metric, task_metric_names(self.tasks))
        if kwargs.get("data_collator") is None and kwargs.get("processing_class") is not None:
            kwargs["data_collator"] = MultiTaskDataCollator(kwargs["processing_class"], self.tasks)
        if kwargs.get("compute_metrics") is None:
            kwargs["compute_metrics"] = build_compute_metrics(self.tasks)
        if args.n_gpu > 1:
            logger.warning("Using one of %d GPUs: start with torchrun or accelerate launch to use all.", args.n_gpu)
            args._n_gpu = 1
        if args.max_tokens_per_batch is not None:
            check_training_rows(kwargs.get("train_dataset"), args.length_column_name, args.max_tokens_per_batch)
        super().__init__(model=model, args=args, **kwargs)
        self.dataloaders = TrainerDataLoaders(
            args, self.accelerator, self.tasks, sampling or Sampling(), epoch=lambda: int(self.state.epoch or 0)
        )
        self.decayed = set(self.get_decay_parameter_names(model))
        if self._has_schedule:
            self.add_callback(self.freeze_callback)
        # After the schedule's, whose changes it marks.
        self.tracking = TrackingCallback(self.callback_handler.callbacks, args, model)
        if self.tracking.trackers:
            self.add_callback(self.tracking)
        self.ema: EMACallback | None = None
        if args.ema_decay is not None:
            if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
                found = self.accelerator.distributed_type.value
                raise ValueError(f"ema_decay needs whole weights and does not work under {found}; leave it out.")
            # Behind the schedule's: what trains is known then.
            self.ema = EMACallback(model, args.ema_decay)
            self.add_callback(self.ema)
        # Sums since the last log, on the device: reading them at every step would wait for it.
        self._task_losses: dict[str, torch.Tensor] = {}
        self._steps_since_log = 0
        self._rates: dict[str, float] = {}
        self._labelled_rows: dict[str, torch.Tensor] = {}
        self._cache: ActivationCache | NoCache = NoCache()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, as ``Trainer.train`` does; with every group frozen do nothing and say so."""
        self._check_tasks()
        schedule = self.freeze_callback.schedule
        is_baseline = schedule is not None and schedule.is_baseline
        if is_baseline or not any(parameter.requires_grad for parameter in self.model.parameters()):
            logger.warning("Every group is frozen: nothing will be learned. The model is a baseline as it is.")
            return TrainOutput(global_step=0, training_loss=0.0, metrics={})
        if self.is_world_process_zero():
            log_precision(self.args, self.model.dtype)
        self._task_losses, self._steps_since_log, self._labelled_rows = {}, 0, {}
        self.dataloaders.begin(resume_from_checkpoint)
        if self.ema is not None:
            self.ema.forget()
        with nullcontext() if self.args.store_frozen == NEVER else self._caching(in_training=True):
            result = super().train(resume_from_checkpoint, *args, **kwargs)
        self._report_rows()
        return result

    def _freeze_hooks(self) -> FreezeHooks:
        return FreezeHooks(
            peak_rates=self._peak_rates,
            rebuild_ddp=lambda: rebuild_ddp(self.model_wrapped, self.accelerator.ddp_handler),
            validation_sample=self._validation_sample,
            settle_ema=lambda: None if self.ema is None else self.ema.settle(),
        )

    def _peak_rates(self, stage: FreezeStage | None = None) -> dict[str, float]:
        """Return the peak learning rate of each layer group, of the run or of a stage."""
        return peak_rates(self.layer_groups, self.args.learning_rate, self.args.peak_head_learning_rate, stage)

    def _validation_sample(self) -> dict[str, torch.Tensor] | None:
        """Return a batch of validation rows; of the first validation set if there are several."""
        dataset = self.eval_dataset
        if isinstance(dataset, Mapping):
            dataset = next(iter(dataset.values()))
        if dataset is None or not has_length(dataset):
            return None
        return drift_sample(dataset, self.data_collator, self.args.device)

    def _check_tasks(self) -> None:
        """Refuse a model whose tasks are no longer those that data, metrics and optimizer are for."""
        if self.model.config.tasks != self.tasks:
            before, now = (", ".join(task.name for task in tasks) for tasks in (self.tasks, self.model.config.tasks))
            raise ValueError(
                f"the model's tasks have changed since this trainer was built, from {before} to {now}; build another."
            )

    def training_step(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Train on a batch as ``Trainer`` does, starting from the cached states of frozen layers."""
        self._cache.begin_step()
        return super().training_step(model, self._cache.add_states(inputs), *args, **kwargs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Estimate the operations of a step as ``Trainer`` does, but count the weights once and not at every step."""
        return 6 * inputs["input_ids"].numel() * self._num_weights if "input_ids" in inputs else 0

    @cached_property
    def _weights(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    @cached_property
    def _num_weights(self) -> int:
        return self.model.num_parameters(exclude_embeddings=True)

    def plan(self) -> list[StagePlan]:
        """Work out what each stage of the schedule will train, with which rates and memory.

        Returns:
            The stages; a single one that trains everything where there is no schedule.

        Raises:
            ValueError: If the schedule does not fit into the run.
        """
        steps_per_epoch, max_steps = self.run_length()
        return plan_stages(
            self._schedule_of(max_steps / steps_per_epoch),
            self.layer_groups,
            steps_per_epoch,
            max_steps,
            self.args.learning_rate,
            self.args.peak_head_learning_rate,
            *self.get_optimizer_cls_and_kwargs(self.args, self.model),
        )

    @property
    def freeze_schedule(self) -> FreezeSchedule | None:
        """The stages of the run, None without a schedule; the object that the run follows.

        Presets take shares of the run's length, or of ``num_train_epochs`` if the trainer has no training rows.
        """
        return self.resolve_schedule() if self._has_schedule else None

    def resolve_schedule(self) -> FreezeSchedule:
        """Return `freeze_schedule`, or without a schedule a single stage that trains everything."""
        if self.freeze_callback.run is not None:
            return self.freeze_callback.run.schedule
        if self.train_dataset is None:
            return self._schedule_of(self.args.num_train_epochs)
        steps_per_epoch, max_steps = self.run_length()
        return self._schedule_of(max_steps / steps_per_epoch)

    def _schedule_of(self, num_epochs: float) -> FreezeSchedule:
        return self.freeze_callback.build_schedule(self.layer_groups, num_epochs, self.args.metric_for_best_model)

    def run_length(self) -> tuple[int, int]:
        """Return the optimizer steps of an epoch and of the run."""
        _, steps_per_epoch, *_, max_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        return steps_per_epoch, max_steps

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with parameter groups by layer group.

        Frozen parameters are in it too: without a gradient they cost no update and no optimizer state.

        Raises:
            ValueError: If ``args.optim`` names an optimizer that makes parameter groups of its own.
        """
        if self.optimizer is not None:
            return self.optimizer
        optimizer_class, kwargs = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
            self.args, self.model
        )
        if not isinstance(optimizer_class, type) or kwargs.keys() & {"params", "model", "optimizer_dict"}:
            raise ValueError(
                f"optim={self.args.optim!r} makes parameter groups of its own, which leaves no learning rate for the "
                "heads; choose an optimizer such as adamw_torch_fused, sgd or adafactor."
            )
        self.optimizer = optimizer_class(self._parameter_groups(model or self.model), **kwargs)
        return self.optimizer

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Split the parameters by layer group, with and without weight decay (none for biases and norms)."""
        rates = self._peak_rates()
        groups = []
        for group in self.layer_groups.bind(model):
            for decay, wanted in ((self.args.weight_decay, True), (0.0, False)):
                parameters = [weight for name, weight in group.parameters.items() if (name in self.decayed) == wanted]
                if parameters:
                    values = {"lr": rates[group.name], "weight_decay": decay, "layer_group": group.name}
                    groups.append({"params": parameters, **values})
        return groups

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor | None:
        """Clip the gradients as ``Trainer`` does, without going through the weights that are frozen at every step."""
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            return super()._clip_grad_norm(model)
        weights = [weight for weight in self._weights if weight.grad is not None]
        return self.accelerator.clip_grad_norm_(weights, self.args.max_grad_norm)

    def _get_learning_rate(self) -> float:
        """Return the encoder's highest rate of those that train, or the heads' where the encoder is frozen."""
        # Called in front of the scheduler's step: afterwards they are the rates of the next step.
        self._rates = trained_rates(self.callback_handler.optimizer)
        if not self._rates:
            return super()._get_learning_rate()  # an optimizer of the caller's own
        heads = {group.name for group in self.layer_groups if group.is_head}
        encoder = [rate for name, rate in self._rates.items() if name not in heads]
        return max(encoder or self._rates.values())

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, dict[str, torch.Tensor] | None]:
        """Take the batches of one optimizer step and count each task's labelled items in all of them.

        Returns:
            The batches, and by task the number of labelled items on all processes: what its loss is divided by, so
            that accumulation and the number of processes do not change it.
        """
        if self.control.should_training_stop:
            return [], None  # a run that is resumed at the end of its freeze schedule
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._steps_since_log += 1
        self.dataloaders.pop_stream_state(batches)
        if not batches or "labels" not in batches[0]:
            return batches, None
        if self.accelerator.gradient_state.end_of_dataloader:
            batches[-1] = self.dataloaders.drop_padding_rows(batches[-1], self.train_dataset)
        names, counts = [], []
        for task in self.tasks:
            names.append(task.name)
            items = [count_labeled(task, batch["labels"][task.name]) for batch in batches]
            counts.append(torch.stack([rows.sum() for rows in items]))
            labelled = torch.stack([(rows > 0).sum() for rows in items]).sum()
            self._labelled_rows[task.name] = labelled + self._labelled_rows.get(task.name, 0)
        for task in self._protected_tasks:
            names.append(f"{task.name}_distill")
            counts.append(torch.stack([count_items(task, batch) for batch in batches]))
        totals = torch.stack([count.sum() for count in counts]).to(device)
        if self._counts_are_global:
            totals = self.accelerator.reduce(totals, reduction="sum")
        return batches, dict(zip(names, totals, strict=True))

    def _take_labelled_rows(self) -> dict[str, int]:
        """Return the labelled rows of each task on all processes since the last call."""
        if not self._labelled_rows:
            return {}
        rows = torch.stack(list(self._labelled_rows.values())).to(self.args.device)
        counts = self.accelerator.reduce(rows, reduction="sum").tolist()
        names, self._labelled_rows = list(self._labelled_rows), {}
        return dict(zip(names, counts, strict=True))

    def _report_rows(self) -> None:
        """Say how many labelled rows of each task the training took, and what a stream lost."""
        totals = {task.name: 0 for task in self.tasks} | self._take_labelled_rows()
        history = TrainingHistory(self.state.log_history)
        totals = {name: rows + int(history.total(f"{name}_rows")) for name, rows in totals.items()}
        logger.info("Rows trained on: %s.", ", ".join(f"{name} {rows:,}" for name, rows in totals.items()))
        for line in self.dataloaders.stream_report.losses():
            logger.warning("train, as streamed: %s.", line)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        data: PreparedData | None = None,
    ) -> None:
        """Write the model card to ``output_dir``: tasks, data, scores, what each stage of freezing gave, use.

        The scores are those that the trainer has recorded of the weights that it has now.

        Args:
            language: Language of the texts, where it is known.
            license: Licence of the model; the encoder's own where None.
            tags: Further tags.
            model_name: Title of the card.
            data: The data of the training: where they come from, and texts to try the model with.
        """
        if not self.is_world_process_zero():
            return
        sets = {"train": self.train_dataset, "validation": self.eval_dataset}
        rows = {split: len(rows) for split, rows in sets.items() if isinstance(rows, datasets.Dataset)}
        restores_best = self.args.load_best_model_at_end
        facts = training_facts(self.state, self.tasks, restores_best, self.args.output_dir, rows, data)
        name = self.hub_model_id or HERE
        config = self.accelerator.unwrap_model(self.model).config
        card = build_model_card(config, name, facts, model_name, language=language, license=license, tags=tags)
        card.save(Path(self.args.output_dir, CARD_NAME))

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload model, tokenizer, card and the model's code as ``Trainer`` does.

        Args:
            args: See ``Trainer.push_to_hub``.
            kwargs: The same; ``language``, ``license``, ``tags`` and ``data`` go to `create_model_card`.

        Returns:
            What ``Trainer.push_to_hub`` returns.

        Raises:
            ConnectionError: If the upload fails.
        """
        with explain_upload_errors(self.hub_model_id or self.args.hub_model_id or Path(self.args.output_dir).name):
            return super().push_to_hub(*args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save as ``Trainer`` does, and where a stream goes on.

        What the main process writes next says that the checkpoint is whole, for all.
        """
        super()._save_rng_state(output_dir)
        self.dataloaders.save(output_dir)
        if self.ema is not None and self.args.should_save:
            self.ema.save(output_dir)
        self.accelerator.wait_for_everyone()

    def _averaged(self) -> AbstractContextManager:
        """Return a context in which the model's weights are their average, where there is one."""
        return nullcontext() if self.ema is None else self.ema.applied()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as ``Trainer`` does, the average of the weights where there is one."""
        with self._averaged(), self._caching_if_asked():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """Predict as ``Trainer`` does, with the average of the weights where there is one."""
        with self._averaged(), self._caching_if_asked():
            return super().predict(*args, **kwargs)

    def _caching_if_asked(self) -> AbstractContextManager[None]:
        """Return a context in which states of evaluated rows are cached, outside of a training only if asked for."""
        is_asked = isinstance(self._cache, NoCache) and self.args.store_frozen == ALWAYS
        return self._caching(in_training=False) if is_asked else nullcontext()

    @contextmanager
    def _caching(self, in_training: bool) -> Iterator[None]:
        """Cache the states of frozen layers in this context."""
        hooks = CacheHooks(
            remaining_stages=self._remaining_stages if in_training else lambda: [((), 1.0)],
            evaluations_per_epoch=self._evaluations_per_epoch if in_training else lambda: 1.0,
            train_dataloader=lambda: self.callback_handler.train_dataloader,
            autocast=self.compute_loss_context_manager,
        )
        self._cache = ActivationCache(
            self.args.cache_settings,
            self.args,
            self.accelerator,
            self.model,
            self.layer_groups,
            self.data_collator,
            hooks,
            self.train_dataset if in_training else None,
        )
        try:
            yield
        finally:
            self._cache = NoCache()

    def _remaining_stages(self) -> list[tuple[Sequence[str], float]]:
        """Return the groups that train and the number of epochs, stage by stage from now on."""
        if self.freeze_callback.run is not None:
            return self.freeze_callback.run.remaining_stages()
        trained = [group.name for group in self.layer_groups if group.trainable]
        return [(trained, (self.state.max_steps - self.state.global_step) / self._steps_per_epoch())]

    def _evaluations_per_epoch(self) -> float:
        if self.args.eval_strategy == IntervalStrategy.STEPS:
            return self._steps_per_epoch() / self.state.eval_steps
        return 1.0

    def _steps_per_epoch(self) -> int:
        return count_steps_per_epoch(self.args, self.state, self.callback_handler.train_dataloader)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the model as ``Trainer`` does, with the average of the weights where there is one."""
        with self._averaged():
            super().save_model(*args, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        if self.ema is None:
            refuse_averaged(resume_from_checkpoint)
        else:
            self.ema.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.ema is not None:
            self.ema.forget()

    @property
    def _protected_tasks(self) -> list[TaskConfig]:
        """The tasks that any stage holds; the batches of a stage's first step are taken before it begins."""
        schedule = self.freeze_callback.schedule
        protect = {} if schedule is None else schedule.protect
        return [task for task in self.tasks if task.name in protect]

    @property
    def _counts_are_global(self) -> bool:
        return self.args.average_tokens_across_devices and self.args.world_size > 1

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss as ``Trainer`` does, and keep each task's for the log."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training and outputs.losses is not None:
            scale = self.args.world_size if self._counts_are_global else 1
            losses = {f"{task.name}_loss": outputs.losses[task.name].detach() for task in self.tasks}
            run = self.freeze_callback.run
            teacher = None if run is None else run.teacher
            if teacher is not None:
                counts = {task.name: num_items_in_batch[f"{task.name}_distill"] for task in self._protected_tasks}
                for name, distance in teacher.losses(inputs, outputs.logits, counts).items():
                    loss = loss + teacher.weights[name] * distance * scale
                    losses[f"{name}_distill_loss"] = distance.detach()
            for name, value in losses.items():
                self._task_losses[name] = self._task_losses.get(name, 0.0) + value * scale
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ``Trainer`` does, with each task's training loss and the learning rates by layer group."""
        if "loss" in logs:
            if self._task_losses:
                sums = torch.stack(list(self._task_losses.values()))
                means = self.accelerator.reduce(sums, reduction="mean") / self._steps_since_log
                logs |= dict(zip(self._task_losses, means.tolist(), strict=True))
            logs |= {f"{LEARNING_RATE_PREFIX}{name}": rate for name, rate in self._rates.items()}
            logs |= {f"{name}_rows": count for name, count in self._take_labelled_rows().items()}
            self._task_losses, self._steps_since_log = {}, 0
            # The Trainer subtracts the sum from itself: a NaN would stay.
            self._tr_loss.zero_()
        super().log(logs, start_time)

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches of training rows, as ``Trainer`` does; of a stream, each process's own part of them."""
        if isinstance(self.train_dataset, TrainingStream):
            return self.dataloaders.load_stream(self.train_dataset, self.data_collator)
        return super().get_train_dataloader()

    def _get_dataloader(
        self,
        dataset: Dataset,
        description: str,
        batch_size: int,
        sampler_fn: Callable[[Dataset], Sampler | None] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Return the batches of rows: of similar length, as arrays, and with row numbers for the activation cache."""
        rows = self._prepare_rows(dataset, is_training)
        batches = self.dataloaders.token_batches(dataset, is_training)
        if batches is not None:
            return self.dataloaders.load(rows, is_training, batch_sampler=batches, collate_fn=self.data_collator)

        def make_sampler(rows: Dataset) -> Sampler | None:
            if is_training:
                sampler = self.dataloaders.train_sampler(rows, dataset)
            else:
                sampler = self.dataloaders.eval_sampler(rows)
            return sampler_fn(rows) if sampler is None and sampler_fn is not None else sampler

        return super()._get_dataloader(rows, description, batch_size, make_sampler, is_training, dataloader_key)

    def _prepare_rows(self, dataset: Dataset, is_training: bool) -> Dataset:
        """Return rows as batches are made of them."""
        if not isinstance(dataset, datasets.Dataset):
            return dataset
        # Only the sampler reads the number of a row's dataset.
        rows = dataset.remove_columns([name for name in dataset.column_names if name == DATASET_COLUMN])
        numbered = self._cache.number_rows(dataset, rows, is_training)
        return as_arrays(numbered, self.data_collator)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, dict[str, Any] | None, dict[str, torch.Tensor] | None]:
        """Predict a batch and reduce it on the device to label ids and sums of losses.

        Returns:
            The batch's loss; by task ``ids`` (what `decode` returns) and, with labels, ``loss`` and ``count`` by
            row; and the labels by task.
        """
        inputs = self._prepare_inputs(self._cache.add_states(inputs))
        labels = inputs.pop("labels", None)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs: MultiTaskOutput = model(**inputs)
        predictions: dict[str, Any] = {}
        loss = None if labels is None else torch.zeros((), device=self.args.device)
        for task in self.tasks:
            found = self._reduce(task, outputs["logits"][task.name], inputs.get("tag_positions"), labels)
            if labels is not None:
                loss = loss + task.loss_weight * found["loss"].sum() / found["count"].sum().clamp(min=1)
            predictions[task.name] = found
        return loss, None if prediction_loss_only else predictions, None if prediction_loss_only else labels

    @torch.no_grad()
    def _reduce(
        self,
        task: TaskConfig,
        logits: torch.Tensor,
        tag_positions: torch.Tensor | None,
        labels: Mapping[str, torch.Tensor] | None,
    ) -> dict[str, torch.Tensor]:
        """Reduce a task's logits to ``ids`` and, with labels, ``loss`` and ``count`` by row."""
        crf = self.model.crfs.get(task.name)
        found = {"ids": decode(task, logits, tag_positions, crf)}
        if labels is not None:
            found["loss"] = example_losses(task, logits, labels[task.name], tag_positions, crf)
            found["count"] = count_labeled(task, labels[task.name])
        return found

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Run evaluation as ``Trainer`` does, and put the rows back into the dataset's order."""
        self._check_tasks()
        with self._cache.evaluating(dataloader):
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if self.freeze_callback.run is not None and prefix == "eval":
            drift = self.freeze_callback.run.measure_drift()
            output.metrics.update({f"{prefix}_{name}": value for name, value in drift.items()})
        predictions, labels = (
            restore_row_order(dataloader, values) for values in (output.predictions, output.label_ids)
        )
        return output._replace(predictions=predictions, label_ids=labels)
