"""The Trainer for several tasks on one encoder."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    EvalLoopOutput,
    PredictionOutput,
    TrainOutput,
    get_last_checkpoint,
)

from ..data import MultiTaskDataCollator, PreparedData, Sampling, TrainingStream
from ..freezing import FreezeCallback, FreezeSchedule, FreezeSpec, FreezeStage, MultiTaskFreezeCallback
from ..freezing.activation_cache.cache import ActivationCache, NoCache
from ..freezing.activation_cache.cache_plan import ALWAYS, NEVER
from ..freezing.hooks import FreezeHooks
from ..freezing.plan import StagePlans, plan_stages
from ..freezing.rates import peak_rates
from ..freezing.replay import check_watched_metrics
from ..models import MultiTaskModel, MultiTaskOutput, TaskConfig
from ..models.collator import TEACHER_COLUMN
from ..models.encoder_loading import max_positions
from ..models.encoder_vocabulary import check_padding_token, check_vocabulary
from ..models.hub_errors import explain_upload_errors
from ..models.messages import unknown_name_message
from ..models.type_aliases import Batch
from ..runtime.fold_scores import FoldScores
from ..runtime.precision import log_precision
from .arguments import MultiTaskTrainingArguments
from .caching import build_cache
from .card_facts import as_list, write_card
from .checkpoint_errors import add_checksums, check_checksums, explain_checkpoint_errors
from .dataloaders import (
    TrainerDataLoaders,
    check_prepared,
    check_training_rows,
    drop_last_if,
    prepare_rows,
    restore_row_order,
    validation_sample,
)
from .ddp import rebuild_ddp
from .distillation import Distillation, build_distiller
from .divergence import DivergenceCheck
from .ema import EMACallback, build_ema, refuse_averaged, replace_callback
from .epoch_end import EpochEndCallback
from .logged_sums import LoggedSums
from .metrics import build_compute_metrics, task_metric_names, with_loss_only
from .optimizer_groups import check_optimizer_class, parameter_groups
from .prediction_reduction import losses_only, reduce_predictions, weighted_loss
from .progress import replace_progress
from .row_lengths import check_row_lengths
from .task_log import TaskLog, count_labels
from .teacher_losses import teacher_losses
from .tracking import TrackingCallback

logger = logging.getLogger(__name__)


class NothingTrainsError(Exception):
    """Every group of the model that a training begins with is frozen."""


class MultiTaskTrainer(Trainer):
    """``transformers.Trainer`` for a `MultiTaskModel`.

    In addition to ``Trainer`` it has losses by task that accumulation, padding and missing labels do not change,
    learning rates by layer group, predictions reduced to label ids on the device, metrics by task, batches of similar
    length, and freezing in stages with a DDP that reduces only what trains.

    Args:
        model: The model. If its tasks change later, it needs a new trainer; this one raises an error.
        args: Training arguments. Defaults to those of ``Trainer``.
        freeze_schedule: Schedule of freezing, or anything that `freezing.build_schedule` makes a schedule of: a
            preset's name, groups that stay frozen, a file, a mapping. If None, what is frozen in the model stays so.
            With ``model_init`` it may be a function from the trial, None outside of a search, to one of these.
        sampling: Share of each dataset in the training, if several were prepared together.
        distillation: How the model is trained on the scores of a teacher, if `add_teacher_targets` has added them to
            the training rows. Defaults to ``Distillation()``.
        model_init: Function that returns a new model, with or without the trial of a `hyperparameter_search` as its
            argument. Each call of `train` begins with one. Tasks, heads and loss weights may differ from model to
            model; the labels of a task must be those of the data.
        kwargs: Other arguments of ``Trainer``. ``data_collator`` and ``compute_metrics`` default to those of the
            model's tasks.

    Raises:
        ValueError: If the schedule is not valid for the model, ``max_tokens_per_batch`` for the training rows, or
            ``distillation`` for their scores of a teacher; if rows are not prepared, or there is no tokenizer.
    """

    model: MultiTaskModel
    args: MultiTaskTrainingArguments
    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: MultiTaskModel | None = None,
        args: MultiTaskTrainingArguments | None = None,
        freeze_schedule: FreezeSpec | Callable[[Any], FreezeSpec] | None = None,
        sampling: Sampling | None = None,
        distillation: Distillation | None = None,
        model_init: Callable[..., MultiTaskModel] | None = None,
        **kwargs: Any,
    ) -> None:
        self.args = args = args or MultiTaskTrainingArguments("tmp_trainer")
        if not isinstance(args, MultiTaskTrainingArguments):
            raise TypeError(
                f"args: expected MultiTaskTrainingArguments, found {type(args).__name__}. It takes the same arguments "
                "and those of several tasks: from hf_multitask import MultiTaskTrainingArguments."
            )
        self._has_schedule = freeze_schedule is not None
        if any(isinstance(callback, FreezeCallback) for callback in kwargs.get("callbacks") or []):
            raise ValueError("callbacks: found a FreezeCallback; give its schedule as freeze_schedule instead.")
        self._schedule_spec = "none" if freeze_schedule is None else freeze_schedule
        self.freeze_callback = MultiTaskFreezeCallback(self._freeze_hooks())
        self._has_own_collator = kwargs.get("data_collator") is not None or kwargs.get("processing_class") is None
        self._has_own_metrics = kwargs.get("compute_metrics") is not None
        self._distillation = distillation
        validation = kwargs.get("eval_dataset")
        self._metric_prefixes = [f"{name}_" for name in validation] if isinstance(validation, dict) else [""]
        if model is not None:
            # Before the Trainer creates anything.
            self._set_schedule(model)
        if args.n_gpu > 1:
            logger.warning("Using one of %d GPUs: start with torchrun or accelerate launch to use all.", args.n_gpu)
            args._n_gpu = 1
        self._has_collator = any(kwargs.get(name) is not None for name in ("data_collator", "processing_class"))
        for name in ("train_dataset", "eval_dataset"):
            check_prepared(kwargs.get(name), name, self._has_collator)
        check_training_rows(kwargs.get("train_dataset"), args.length_column_name, args.max_tokens_per_batch)
        super().__init__(model=model, args=args, model_init=model_init, **kwargs)
        if model is None:
            self._set_schedule(self.model)
        self.dataloaders = TrainerDataLoaders(
            args, self.accelerator, self.tasks, sampling or Sampling(), epoch=lambda: int(self.state.epoch or 0)
        )
        self.progress = replace_progress(self.callback_handler.callbacks, shows_bar=not args.disable_tqdm)
        self.task_log = TaskLog(self.accelerator)
        self.add_callback(self.task_log)
        self.logged_sums = LoggedSums(self, self.task_log)
        self.add_callback(self.logged_sums)
        self.divergence = DivergenceCheck(self, self.task_log)
        if self._has_schedule:
            self.add_callback(self.freeze_callback)
        # After the schedule's callback, which changes what this one marks.
        self.tracking = TrackingCallback(self.callback_handler.callbacks, args, self.model)
        if self.tracking.trackers:
            self.add_callback(self.tracking)
        self.add_callback(EpochEndCallback())
        # After all that decide what is logged and saved.
        self.add_callback(self.divergence)
        self.ema: EMACallback | None = None
        self.early_stopping: EarlyStoppingCallback | None = None
        self._cache: ActivationCache | NoCache = NoCache()
        self._follow_model()

    # The model and what depends on it.

    def _set_schedule(self, model: MultiTaskModel, trial: Any = None) -> None:
        """Take the tasks and layer groups of a model, and the schedule for them."""
        self.tasks = model.config.tasks
        self.layer_groups = model.layer_groups()
        spec = self._schedule_spec
        self.freeze_callback.reset(spec(trial) if callable(spec) else spec, self.layer_groups)
        if self._has_schedule:
            # The steps per epoch are not known yet; only a run of `max_steps`, or of a fraction of an epoch, has
            # another length than this.
            schedule = self._schedule_of(self.args.num_train_epochs)
            self.layer_groups = self.layer_groups.divide(schedule.name_patterns)
            if not self._has_own_metrics:
                check_watched_metrics(schedule, self.args.metric_for_best_model, task_metric_names(self.tasks))
        if not self._has_own_metrics:
            self._check_best_metric()

    def _check_best_metric(self) -> None:
        """Raise if no evaluation will have the metric that chooses the best checkpoint."""
        metric = self.args.metric_for_best_model
        if metric is None or self.args.eval_strategy == "no":
            return
        name, found = metric.removeprefix("eval_"), task_metric_names(self.tasks)
        names = [f"{prefix}{known}" for prefix in self._metric_prefixes for known in found]
        if name not in names and not name.startswith("drift_"):
            raise ValueError(unknown_name_message("metric_for_best_model", metric, names))

    def _follow_model(self) -> None:
        """Make again what depends on the model, its tasks and the training arguments."""
        if not self._has_own_collator:
            tokenizer: Any = self.processing_class
            self.data_collator = MultiTaskDataCollator(tokenizer, self.tasks)
        if not self._has_own_metrics:
            self.compute_metrics = build_compute_metrics(self.tasks)
        self.distiller = build_distiller(self._distillation, self.tasks, self.train_dataset)
        for place, rows in (("train_dataset", self.train_dataset), ("eval_dataset", self.eval_dataset)):
            check_row_lengths(rows, place, max_positions(self.model.config))
        # A search makes a new accelerator for each trial.
        self.dataloaders.accelerator = self.task_log.accelerator = self.accelerator
        self.dataloaders.tasks = self.tasks
        self.tracking.set_model(self.model)
        _save_special_tokens(self.model, self.processing_class)
        ema = build_ema(self.model, self.args.ema_decay, self.accelerator.distributed_type)
        patience = self.args.early_stopping_patience
        stopping = None if patience is None else EarlyStoppingCallback(patience)
        # After the schedule's callback, which decides what trains.
        replace_callback(self.callback_handler.callbacks, self.ema, ema)
        replace_callback(self.callback_handler.callbacks, self.early_stopping, stopping)
        self.ema, self.early_stopping = ema, stopping
        self._decayed = set(self.get_decay_parameter_names(self.model))
        for name in ("_num_weights", "_weights"):
            self.__dict__.pop(name, None)

    def _hp_search_setup(self, trial: Any) -> None:
        """Set up the training of a model of ``model_init``: the Trainer has just made it, and now the arguments."""
        super()._hp_search_setup(trial)
        if self.model_init is None:
            return
        self.args.check()
        check_training_rows(self.train_dataset, self.args.length_column_name, self.args.max_tokens_per_batch)
        self._set_schedule(self.model, trial)
        self._follow_model()
        if self._nothing_trains():
            raise NothingTrainsError
        self._begin_training()

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

    def plan(self) -> StagePlans:
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
            output_folder=lambda: Path(self._get_output_dir(self._trial)),
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
    def protected_tasks(self) -> list[TaskConfig]:
        """Tasks that any stage protects: a stage begins after the batches of its first step are counted."""
        schedule = self.freeze_callback.schedule
        protect = {} if schedule is None else schedule.protect
        return [task for task in self.tasks if task.name in protect]

    # The activation cache.

    @contextmanager
    def _caching_if_asked(self) -> Iterator[None]:
        """Cache the states of evaluated rows in this context, outside of a training only if always asked for."""
        if not isinstance(self._cache, NoCache) or self.args.store_frozen != ALWAYS:
            yield
            return
        self._cache = build_cache(self, in_training=False)
        try:
            yield
        finally:
            self._cache = NoCache()

    # Training.

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as ``Trainer.train`` does. If every group is frozen, do nothing and log a warning."""
        try:
            if self.model_init is None:
                self._check_tasks()
                if self._nothing_trains():
                    raise NothingTrainsError
                self._begin_training()
            if resume_from_checkpoint is True:
                resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True
            check_checksums(resume_from_checkpoint)
            with explain_checkpoint_errors(str(self.args.output_dir), resume_from_checkpoint):
                self.dataloaders.begin(resume_from_checkpoint)
                self.logged_sums.begin(resume_from_checkpoint)
                result = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except NothingTrainsError:
            logger.warning("Every group is frozen: nothing will be learned. The model is a baseline as it is.")
            self.is_in_train = False
            return TrainOutput(global_step=0, training_loss=0.0, metrics={})
        finally:
            self._cache = NoCache()
            self.progress.close()
        self.task_log.log_rows(self.tasks, self.state.log_history)
        self.dataloaders.log_stream_losses()
        return result._replace(training_loss=self.logged_sums.mean_loss())

    def _nothing_trains(self) -> bool:
        schedule = self.freeze_callback.schedule
        is_baseline = schedule is not None and schedule.is_baseline
        return is_baseline or not any(parameter.requires_grad for parameter in self.model.parameters())

    def _check_tokenizer(self) -> None:
        """Raise if the model has no embeddings for some tokens."""
        if isinstance(self.processing_class, PreTrainedTokenizerBase):
            check_vocabulary(self.processing_class, self.model.config)

    def _begin_training(self) -> None:
        self._check_tokenizer()
        if self.is_world_process_zero():
            log_precision(self.args, self.model.dtype)
        self.task_log.reset()
        if self.ema is not None:
            self.ema.reset()
        if self.args.store_frozen != NEVER:
            self._cache = build_cache(self, in_training=True)

    def get_batch_samples(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], dict[str, torch.Tensor] | None]:
        """Return the batches of one optimizer step, and the number of labeled items of each task in all of them.

        Returns:
            The batches, and by task the number of labeled items on all processes. A task's loss is divided by it, so
            accumulation and the number of processes do not change the loss.
        """
        if self.control.should_training_stop:
            return [], None  # a run that is resumed at its end
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.task_log.begin_step()
        self.dataloaders.pop_stream_state(batches)
        if not batches or "labels" not in batches[0]:
            return batches, None
        if self.accelerator.gradient_state.end_of_dataloader:
            batches[-1] = self.dataloaders.drop_padding_rows(batches[-1], self.train_dataset)
        items, rows = count_labels(self.tasks, self.protected_tasks, batches)
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
            {**{name: value for name, value in inputs.items() if name != TEACHER_COLUMN}, "return_dict": True},
            return_outputs=True,
            num_items_in_batch=num_items_in_batch,  # type: ignore[arg-type]  # passed on to the model
        )
        if model.training and outputs.losses is not None:
            scale = self.args.world_size if self._counts_are_global else 1
            losses = {f"{task.name}_loss": outputs.losses[task.name].detach() for task in self.tasks}
            distances = teacher_losses(self, inputs, outputs, num_items_in_batch)
            for name, (weight, distance) in distances.items():
                loss = loss + weight * distance * scale
                losses[name] = distance.detach()
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
        self.divergence.gradient_norm = self.accelerator.clip_grad_norm_(weights, self.args.max_grad_norm)
        return self.divergence.gradient_norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ``Trainer`` does, with the losses and labeled rows by task and the learning rates by layer group."""
        if "loss" in logs:
            logs |= self.task_log.pop()
            # The Trainer subtracts the sum of losses from itself to reset it, so a NaN would stay.
            self._tr_loss.zero_()
        if "train_loss" in logs:
            # The Trainer divides by the steps since a checkpoint.
            logs["train_loss"] = self.logged_sums.mean_loss()
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
        check_prepared(dataset, "dataset", self._has_collator)
        check_row_lengths(dataset, "dataset", max_positions(self.model.config))
        rows = prepare_rows(dataset, is_training, self._cache, self.data_collator)
        batches = self.dataloaders.token_batches(dataset, is_training)
        if batches is not None:
            return self.dataloaders.load(rows, is_training, batch_sampler=batches, collate_fn=self.data_collator)

        def make_sampler(rows: Dataset) -> Sampler | None:
            sampler = self.dataloaders.sampler(rows, dataset, is_training)
            return sampler_fn(rows) if sampler is None and sampler_fn is not None else sampler

        with drop_last_if(is_training, self.args):
            return super()._get_dataloader(
                rows,
                description,
                batch_size,
                make_sampler,  # type: ignore[arg-type]  # may return None, as the Trainer's own functions may
                is_training,
                dataloader_key,
            )

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
        output = with_loss_only(self.tasks, output, metric_key_prefix)
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
            outputs = model(**inputs, return_dict=True)
        predictions = reduce_predictions(
            self.tasks, outputs["logits"], labels, inputs.get("tag_positions"), self.model.crfs
        )
        loss = None if labels is None else weighted_loss(self.tasks, predictions)
        if prediction_loss_only:
            return loss, None if labels is None else losses_only(predictions), None
        return loss, predictions, labels

    # Moving average of the weights, and checkpoints.

    def _averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the moving average of the weights, if there is one, is the model's weights."""
        return nullcontext() if self.ema is None else self.ema.swapped_in()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint as ``Trainer`` does, if losses and weights are finite. It contains no code."""
        self.divergence.check()
        plain = self.accelerator.unwrap_model(self.model)
        # What is pushed during the training must load without this package.
        has_code = self.args.push_to_hub or not isinstance(plain, MultiTaskModel)
        with nullcontext() if has_code else plain.saved_without_code():
            super()._save_checkpoint(model, trial)
        if self.args.should_save:
            add_checksums(Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self._averaged(), explain_checkpoint_errors(output_dir or str(self.args.output_dir)):
            super().save_model(output_dir, _internal_call)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save more of a checkpoint here, in the last write of all processes before ``trainer_state.json``.

        A checkpoint counts as complete once it contains ``trainer_state.json``, which the main process writes next. So
        the position in a stream and the weights behind a moving average must be on the disk by then, on all processes.
        """
        super()._save_rng_state(output_dir)
        self.dataloaders.save(output_dir)
        self.logged_sums.save(output_dir)
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

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
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
            finetuned_from: Hub name of the encoder. Defaults to the encoder's own.
            tasks: Further names of tasks on the hub; those of the model's tasks are always there.
            dataset_tags: Hub names of the datasets. Defaults to those of ``data``.
            dataset: Names of the training data, for the table of the data. Defaults to those of ``data``.
            dataset_args: Arguments that each dataset was loaded with, shown after its name.
            data: Data of the training: its provenance, and texts to try the model with.
            folds: Scores of a cross-validation.
        """
        if self.is_world_process_zero():
            names = [
                " ".join(parts).strip() for parts in zip_longest(as_list(dataset), as_list(dataset_args), fillvalue="")
            ]
            metadata = {
                "language": language,
                "license": license,
                "tags": [*as_list(tasks), *as_list(tags)],
                "base_model": finetuned_from,
                "datasets": as_list(dataset_tags),
            }
            write_card(self, data, folds, model_name, names, **metadata)

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


def _save_special_tokens(model: MultiTaskModel, tokenizer: Any) -> None:
    """Save the ids of the tokenizer's special tokens with the model, which the Trainer does too, with a warning.

    Raises:
        ValueError: If the encoder's positions depend on another padding token.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        check_padding_token(tokenizer, model.config)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if (token_id := getattr(tokenizer, name, None)) is not None:
            setattr(model.config, name, token_id)
