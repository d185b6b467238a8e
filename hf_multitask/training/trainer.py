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
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy, PredictionOutput, TrainOutput

from ..data import DATASET_COLUMN, MultiTaskDataCollator, PreparedData, Sampling, TrainingStream
from ..freezing import FreezeCallback, FreezeSchedule, FreezeSpec, FreezeStage, MultiTaskFreezeCallback
from ..freezing.activation_cache.cache import ActivationCache, CacheHooks, NoCache
from ..freezing.activation_cache.cache_plan import ALWAYS, NEVER
from ..freezing.callback import count_steps_per_epoch
from ..freezing.hooks import FreezeHooks
from ..freezing.plan import StagePlan, plan_stages
from ..freezing.rates import peak_rates
from ..freezing.replay import check_watched_metrics
from ..models import MultiTaskModel, MultiTaskOutput, TaskConfig
from ..models.collator import TEACHER_COLUMN
from ..models.hub_card import CARD_NAME, HERE, build_model_card
from ..models.hub_errors import explain_upload_errors
from ..models.type_aliases import Batch
from ..runtime.fold_scores import FoldScores
from ..runtime.precision import log_precision
from .arguments import MultiTaskTrainingArguments
from .card_facts import training_facts
from .dataloaders import TrainerDataLoaders, as_arrays, check_training_rows, restore_row_order, validation_sample
from .ddp import rebuild_ddp
from .distillation import TEACHER, Distillation, build_distiller
from .ema import build_ema, refuse_averaged
from .metrics import build_compute_metrics, task_metric_names
from .optimizer_groups import check_optimizer_class, parameter_groups
from .prediction_reduction import reduce_predictions, weighted_loss
from .task_log import DISTILL, TaskLog, count_labels
from .tracking import TrackingCallback

logger = logging.getLogger(__name__)


class MultiTaskTrainer(Trainer):
    """``transformers.Trainer`` for a `MultiTaskModel`.

    In addition to ``Trainer`` it has losses by task that accumulation, padding and missing labels do not change,
    learning rates by layer group, predictions reduced to label ids on the device, metrics by task, batches of similar
    length, and freezing in stages with a DDP that reduces only what trains.

    Args:
        model: The model. If its tasks change later, it needs a new trainer; this one raises an error.
        args: Training arguments.
        freeze_schedule: Schedule of freezing, or anything that `freezing.build_schedule` makes a schedule of: a
            preset's name, groups that stay frozen, a file, a mapping. If None, what is frozen in the model stays so.
        sampling: Share of each dataset in the training, if several were prepared together.
        distillation: How the model is trained on the scores of a teacher, if `add_teacher_targets` has added them to
            the training rows. Defaults to ``Distillation()``.
        kwargs: Other arguments of ``Trainer``. ``data_collator`` and ``compute_metrics`` default to those of the
            model's tasks.

    Raises:
        ValueError: If the schedule is not valid for the model, ``max_tokens_per_batch`` for the training rows, or
            ``distillation`` for their scores of a teacher.
    """

    model: MultiTaskModel
    args: MultiTaskTrainingArguments
    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: MultiTaskModel,
        args: MultiTaskTrainingArguments,
        freeze_schedule: FreezeSpec | None = None,
        sampling: Sampling | None = None,
        distillation: Distillation | None = None,
        **kwargs: Any,
    ) -> None:
        self.tasks = model.config.tasks
        self.layer_groups = model.layer_groups()
        self._has_schedule = freeze_schedule is not None
        if any(isinstance(callback, FreezeCallback) for callback in kwargs.get("callbacks") or []):
            raise ValueError("callbacks: found a FreezeCallback; give its schedule as freeze_schedule instead.")
        self.freeze_callback = MultiTaskFreezeCallback(
            "none" if freeze_schedule is None else freeze_schedule, self.layer_groups, self._freeze_hooks()
        )
        if self._has_schedule:
            # Before the Trainer creates anything. The steps per epoch are not known yet; only a run of `max_steps`, or
            # of a fraction of an epoch, has another length than this.
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
        self.distiller = build_distiller(distillation, self.tasks, kwargs.get("train_dataset"))
        super().__init__(model=model, args=args, **kwargs)
        self.dataloaders = TrainerDataLoaders(
            args, self.accelerator, self.tasks, sampling or Sampling(), epoch=lambda: int(self.state.epoch or 0)
        )
        self.task_log = TaskLog(self.accelerator)
        self.add_callback(self.task_log)
        if self._has_schedule:
            self.add_callback(self.freeze_callback)
        # After the schedule's callback, which changes what this one marks.
        self.tracking = TrackingCallback(self.callback_handler.callbacks, args, model)
        if self.tracking.trackers:
            self.add_callback(self.tracking)
        self.ema = build_ema(model, args.ema_decay, self.accelerator.distributed_type)
        if self.ema is not None:
            # After the schedule's callback, which decides what trains.
            self.add_callback(self.ema)
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))
        self._decayed = set(self.get_decay_parameter_names(model))
        self._cache: ActivationCache | NoCache = NoCache()

    def _check_tasks(self) -> None:
        """Raise if the tasks of the model are no longer the tasks that data, metrics and optimizer are for."""
        if self.model.config.tasks != self.tasks:
            before, now = (", ".join(task.name for task in tasks) for tasks in (self.tasks, self.model.config.tasks))
            raise ValueError(
                f"the model's tasks have changed since this trainer was built, from {before} to {now}; build another."
            )

    # The schedule.

    @property
    def freeze_schedule(self) -> FreezeSchedule | None:
        """Schedule of the run, None without one. It is the object that the run follows.

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
        """Return the optimizer steps per epoch and of the run."""
        _, steps_per_epoch, *_, max_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        return steps_per_epoch, max_steps

    def plan(self) -> list[StagePlan]:
        """Return what each stage of the schedule will train, with its learning rates and memory.

        Returns:
            The stages; without a schedule a single one that trains everything.

        Raises:
            ValueError: If the stages do not fit into the run.
        """
        steps_per_epoch, max_steps = self.run_length()
        return plan_stages(
            self._schedule_of(max_steps / steps_per_epoch),
            self.layer_groups,
            steps_per_epoch,
            max_steps,
            self.args.learning_rate,
            self.args.peak_head_learning_rate,
            self.args.layer_lr_decay,
            *self.get_optimizer_cls_and_kwargs(self.args, self.model),
        )

    def _freeze_hooks(self) -> FreezeHooks:
        return FreezeHooks(
            peak_rates=self._peak_rates,
            rebuild_ddp=lambda: rebuild_ddp(self.model_wrapped, self.accelerator.ddp_handler),
            validation_sample=lambda: validation_sample(self.eval_dataset, self.data_collator, self.args.device),
            settle_ema=lambda: None if self.ema is None else self.ema.copy_to_model(),
        )

    def _peak_rates(self, stage: FreezeStage | None = None) -> dict[str, float]:
        """Return the peak learning rate of each layer group, of the run or of a stage."""
        return peak_rates(
            self.layer_groups,
            self.args.learning_rate,
            self.args.peak_head_learning_rate,
            stage,
            self.args.layer_lr_decay,
        )

    @property
    def _protected_tasks(self) -> list[TaskConfig]:
        """Tasks that any stage protects: a stage begins after the batches of its first step are counted."""
        schedule = self.freeze_callback.schedule
        protect = {} if schedule is None else schedule.protect
        return [task for task in self.tasks if task.name in protect]

    # The activation cache.

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

    def _caching_if_asked(self) -> AbstractContextManager[None]:
        """Return a context that caches states of evaluated rows, outside of a training only if always asked for."""
        is_asked = isinstance(self._cache, NoCache) and self.args.store_frozen == ALWAYS
        return self._caching(in_training=False) if is_asked else nullcontext()

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

    # Training.

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as ``Trainer.train`` does. If every group is frozen, do nothing and log a warning."""
        self._check_tasks()
        schedule = self.freeze_callback.schedule
        is_baseline = schedule is not None and schedule.is_baseline
        if is_baseline or not any(parameter.requires_grad for parameter in self.model.parameters()):
            logger.warning("Every group is frozen: nothing will be learned. The model is a baseline as it is.")
            return TrainOutput(global_step=0, training_loss=0.0, metrics={})
        if self.is_world_process_zero():
            log_precision(self.args, self.model.dtype)
        self.task_log.reset()
        self.dataloaders.begin(resume_from_checkpoint)
        if self.ema is not None:
            self.ema.reset()
        with nullcontext() if self.args.store_frozen == NEVER else self._caching(in_training=True):
            result = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        self.task_log.log_rows(self.tasks, self.state.log_history)
        self.dataloaders.log_stream_losses()
        return result

    def get_batch_samples(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], dict[str, torch.Tensor] | None]:
        """Return the batches of one optimizer step, and the number of labeled items of each task in all of them.

        Returns:
            The batches, and by task the number of labeled items on all processes. A task's loss is divided by it, so
            accumulation and the number of processes do not change the loss.
        """
        if self.control.should_training_stop:
            return [], None  # a run that is resumed at the end of its freeze schedule
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.task_log.begin_step()
        self.dataloaders.pop_stream_state(batches)
        if not batches or "labels" not in batches[0]:
            return batches, None
        if self.accelerator.gradient_state.end_of_dataloader:
            batches[-1] = self.dataloaders.drop_padding_rows(batches[-1], self.train_dataset)
        items, rows = count_labels(self.tasks, self._protected_tasks, batches)
        if self.distiller is not None:
            items |= self.distiller.count(batches)
        self.task_log.add_rows(rows)
        totals = torch.stack(list(items.values())).to(device)
        if self._counts_are_global:
            totals = self.accelerator.reduce(totals, reduction="sum")
        return batches, dict(zip(items, totals, strict=True))

    @property
    def _counts_are_global(self) -> bool:
        return self.args.average_tokens_across_devices and self.args.world_size > 1

    def training_step(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Train on a batch as ``Trainer`` does, starting from the cached states of frozen layers."""
        self._cache.begin_step()
        return super().training_step(
            model,
            self._cache.add_states(inputs),
            num_items_in_batch,  # type: ignore[arg-type]  # passed on to the model
        )

    def compute_loss(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, MultiTaskOutput]:
        """Compute the loss as ``Trainer`` does, add the distances to teachers, and log the loss by task."""
        loss, outputs = super().compute_loss(
            model,
            {name: value for name, value in inputs.items() if name != TEACHER_COLUMN},
            return_outputs=True,
            num_items_in_batch=num_items_in_batch,  # type: ignore[arg-type]  # passed on to the model
        )
        if model.training and outputs.losses is not None:
            scale = self.args.world_size if self._counts_are_global else 1
            losses = {f"{task.name}_loss": outputs.losses[task.name].detach() for task in self.tasks}
            run = self.freeze_callback.run
            if run is not None and run.teacher is not None and num_items_in_batch is not None:
                counts = {task.name: num_items_in_batch[f"{task.name}{DISTILL}"] for task in self._protected_tasks}
                for name, distance in run.teacher.losses(inputs, outputs.logits, counts).items():
                    loss = loss + run.teacher.weights[name] * distance * scale
                    losses[f"{name}{DISTILL}_loss"] = distance.detach()
            if self.distiller is not None and num_items_in_batch is not None:
                found = self.distiller.losses(inputs, outputs.logits, num_items_in_batch, self.model.crfs)
                for name, distance in found.items():
                    loss = loss + self.distiller.weights[name] * distance * scale
                    losses[f"{name}{TEACHER}_loss"] = distance.detach()
            self.task_log.add_losses({name: value * scale for name, value in losses.items()})
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: Batch) -> int:
        """Estimate the operations of a step as ``Trainer`` does, but count the weights only once."""
        return 6 * inputs["input_ids"].numel() * self._num_weights if "input_ids" in inputs else 0

    @cached_property
    def _num_weights(self) -> int:
        return self.model.num_parameters(exclude_embeddings=True)

    @cached_property
    def _weights(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with parameter groups by layer group, frozen weights included.

        Raises:
            ValueError: If ``args.optim`` names an optimizer that makes its own parameter groups.
        """
        if self.optimizer is not None:
            return self.optimizer
        optimizer_class, kwargs = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
            self.args, self.model
        )
        check_optimizer_class(self.args.optim, optimizer_class, kwargs)
        groups = self.layer_groups.bind(model or self.model)
        self.optimizer = optimizer_class(
            parameter_groups(groups, self._peak_rates(), self._decayed, self.args.weight_decay), **kwargs
        )
        return self.optimizer

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor | None:
        """Clip the gradients as ``Trainer`` does, but without a walk through all modules at every step."""
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            return super()._clip_grad_norm(model)
        weights = [weight for weight in self._weights if weight.grad is not None]
        return self.accelerator.clip_grad_norm_(weights, self.args.max_grad_norm)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ``Trainer`` does, with the losses and labeled rows by task and the learning rates by layer group."""
        if "loss" in logs:
            logs |= self.task_log.pop()
            # The Trainer subtracts the sum of losses from itself to reset it, so a NaN would stay.
            self._tr_loss.zero_()
        super().log(logs, start_time)

    # Rows and batches.

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches of training rows as ``Trainer`` does; of a stream, this process's batches."""
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
            sampler = self.dataloaders.sampler(rows, dataset, is_training)
            return sampler_fn(rows) if sampler is None and sampler_fn is not None else sampler

        return super()._get_dataloader(
            rows,
            description,
            batch_size,
            make_sampler,  # type: ignore[arg-type]  # may return None, as the Trainer's own functions may
            is_training,
            dataloader_key,
        )

    def _prepare_rows(self, dataset: Dataset, is_training: bool) -> Dataset:
        """Return rows as batches are made of them."""
        if not isinstance(dataset, datasets.Dataset):
            return dataset
        # Only the sampler reads the number of a row's dataset.
        rows = dataset.remove_columns([name for name in dataset.column_names if name == DATASET_COLUMN])
        numbered = self._cache.number_rows(dataset, rows, is_training)
        return as_arrays(numbered, self.data_collator)

    # Evaluation.

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self._averaged(), self._caching_if_asked():
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self, test_dataset: Dataset, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predict as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self._averaged(), self._caching_if_asked():
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run evaluation as ``Trainer`` does, from cached states, and return predictions in the dataset's order.

        Metrics of the validation set contain the drift of the inputs of frozen heads.

        Raises:
            ValueError: If the tasks of the model have changed since the trainer was built.
        """
        self._check_tasks()
        with self._cache.evaluating(dataloader):
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        if self.freeze_callback.run is not None and metric_key_prefix == "eval" and output.metrics is not None:
            drift = self.freeze_callback.run.measure_drift()
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in drift.items()})
        predictions = restore_row_order(dataloader, output.predictions)
        labels = restore_row_order(dataloader, output.label_ids)
        return output._replace(predictions=predictions, label_ids=labels)

    def prediction_step(  # type: ignore[override]  # predictions and labels are mappings by task
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, dict[str, dict[str, torch.Tensor]] | None, dict[str, torch.Tensor] | None]:
        """Predict a batch and reduce the logits on the device.

        Returns:
            The loss of the batch; by task what `reduce_predictions` returns; and the labels by task.
        """
        inputs = self._prepare_inputs(self._cache.add_states(inputs))
        labels = inputs.pop("labels", None)
        inputs.pop(TEACHER_COLUMN, None)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs)
        predictions = reduce_predictions(
            self.tasks, outputs["logits"], labels, inputs.get("tag_positions"), self.model.crfs
        )
        loss = None if labels is None else weighted_loss(self.tasks, predictions)
        return (loss, None, None) if prediction_loss_only else (loss, predictions, labels)

    # Moving average of the weights, and checkpoints.

    def _averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the moving average of the weights, if there is one, is the model's weights."""
        return nullcontext() if self.ema is None else self.ema.swapped_in()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self._averaged():
            super().save_model(output_dir, _internal_call)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save more of a checkpoint here, in the last write of all processes before ``trainer_state.json``.

        A checkpoint counts as complete once it contains ``trainer_state.json``, which the main process writes next. So
        the position in a stream and the weights behind a moving average must be on the disk by then, on all processes.
        """
        super()._save_rng_state(output_dir)
        self.dataloaders.save(output_dir)
        if self.ema is not None and self.args.should_save:
            self.ema.save(output_dir)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.ema is None:
            refuse_averaged(resume_from_checkpoint)
        else:
            self.ema.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.ema is not None:
            self.ema.reset()

    # The hub.

    def create_model_card(  # type: ignore[override]  # tasks and datasets are those of the model and the data
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        data: PreparedData | None = None,
        folds: FoldScores | None = None,
    ) -> None:
        """Write the model card to ``output_dir``: tasks, data, scores, results of each freeze stage, usage.

        The scores are those that the trainer has recorded for its current weights.

        Args:
            language: Language of the texts, if known.
            license: License of the model. Defaults to the license of the encoder.
            tags: Further tags.
            model_name: Title of the card.
            data: Data of the training: its provenance, and texts to try the model with.
            folds: Scores of a cross-validation.
        """
        if not self.is_world_process_zero():
            return
        sets = {"train": self.train_dataset, "validation": self.eval_dataset}
        restores_best = self.args.load_best_model_at_end
        facts = training_facts(self.state, self.tasks, restores_best, str(self.args.output_dir), sets, data)
        if folds is not None:
            facts.folds = folds.table()
        name = self.hub_model_id or HERE
        config = self.accelerator.unwrap_model(self.model).config
        card = build_model_card(config, name, facts, model_name, language=language, license=license, tags=tags)
        card.save(Path(str(self.args.output_dir), CARD_NAME))

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload model, tokenizer, card and the code of the model as ``Trainer`` does.

        Further arguments of `create_model_card`, such as ``data``, may be given too.

        Raises:
            ConnectionError: If the upload fails.
        """
        with explain_upload_errors(
            self.hub_model_id or self.args.hub_model_id or Path(str(self.args.output_dir)).name
        ):
            return super().push_to_hub(*args, **kwargs)
