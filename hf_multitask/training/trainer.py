"""The Trainer for several tasks on one encoder."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, HPSearchBackend, PredictionOutput, TrainOutput

from ..data import MultiTaskDataCollator, PreparedData, Sampling, TrainingStream
from ..freezing import FreezeSchedule, MultiTaskFreezeCallback
from ..freezing.distillation import Teacher
from ..freezing.hooks import FreezeHooks
from ..freezing.plan import StagePlans
from ..models import MultiTaskModel, MultiTaskOutput
from ..models.collator import TEACHER_COLUMN, first_rows
from ..models.encoder_packing import PACKING_NEEDS, can_pack
from ..models.field_types import describe_value
from ..models.hub_errors import explain_upload_errors
from ..models.layer_groups import LayerGroups
from ..models.modeling_adapters import unwrapped
from ..models.type_aliases import Batch
from ..runtime.fold_scores import FoldScores
from ..runtime.precision import log_precision
from .arguments import MultiTaskTrainingArguments
from .caching import CachedParts, Caching, CachingHooks
from .card_facts import card_metadata, training_facts, write_card
from .checkpoint_errors import add_checksums, explain_checkpoint_errors, find_checked
from .dataloaders import (
    TrainerDataLoaders,
    drop_last_if,
    in_row_order,
    num_own_rows,
    prepare_rows,
    validation_sample,
)
from .ddp import rebuild_ddp
from .distillation import Distillation, build_distiller
from .divergence import DivergenceHooks
from .entity_precision import MinScoreFit
from .logged_sums import LossSums, LossSumsHooks
from .metrics import build_compute_metrics, with_loss_only
from .optimizer_groups import TrainedWeights, check_optimizer_class
from .prediction_reduction import reduce_step
from .row_checks import check_prepared, check_rows, check_training_rows
from .saved_model import check_tokenizer, save_special_tokens, without_code
from .scheduling import ScheduleSpec, Scheduling
from .scope import StateCollector, ThresholdFit
from .score_fits import ScoreCollector, ScoreFits
from .sharing import Sharing, SharingHooks, SharingParts
from .step_losses import StepLosses
from .temperature import TemperatureFit, sample_rows
from .trainer_callbacks import TrainerCallbacks
from .trainer_checks import NothingTrainsError, check_given, check_tasks, check_watched
from .word_dropout import build_word_dropout

logger = logging.getLogger(__name__)


class MultiTaskTrainer(Trainer):
    """``transformers.Trainer`` for a `MultiTaskModel`.

    In addition to ``Trainer`` it has losses by task that accumulation, padding and missing labels do not change,
    learning rates by layer group, predictions reduced to label ids on the device, metrics by task, batches of similar
    length, and freezing in stages with a DDP that reduces only what trains.

    Args:
        model: The model, or a ``PeftModel`` of it. If its tasks change later, it needs a new trainer; this one raises
            an error.
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
        freeze_schedule: ScheduleSpec | None = None,
        sampling: Sampling | None = None,
        distillation: Distillation | None = None,
        model_init: Callable[..., MultiTaskModel] | None = None,
        **kwargs: Any,
    ) -> None:
        self.args = args = check_given(args, kwargs.get("callbacks"))
        model = None if model is None else unwrapped(model)
        self.scheduling = Scheduling(freeze_schedule, args, self._freeze_hooks())
        self._has_own_collator = kwargs.get("data_collator") is not None or kwargs.get("processing_class") is None
        self._has_own_metrics = kwargs.get("compute_metrics") is not None
        self._distillation = distillation
        self._validation = kwargs.get("eval_dataset")
        self._collector: ScoreCollector | StateCollector | None = None
        if model is not None:
            # Before the Trainer creates anything.
            self._set_schedule(model)
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
        self.callbacks = TrainerCallbacks(
            self.callback_handler.callbacks,
            args,
            self.model,
            self.accelerator,
            self.freeze_callback if self.scheduling.is_given else None,
            LossSumsHooks(self._loss_sums, self._set_loss_sums),
            DivergenceHooks(
                tasks=lambda: self.tasks,
                output_folder=lambda: Path(self._get_output_dir(self._trial)),
                is_pruned=lambda: self.hp_search_backend == HPSearchBackend.OPTUNA,
            ),
        )
        has_own_loss = kwargs.get("compute_loss_func") is not None
        self.sharing = Sharing(args, self.callback_handler.callbacks, self._sharing_hooks(), has_own_loss)
        self.step_losses = StepLosses(args, self.callbacks.task_log, self.sharing)
        self.caching = Caching(args, self._caching_hooks())
        self._follow_model()

    # The model and what depends on it.

    def _set_schedule(self, model: MultiTaskModel, trial: Any = None) -> None:
        """Take the tasks and layer groups of a model, and the schedule for them."""
        if self.args.push_to_hub:
            model.check_pushable()
        self.tasks = model.config.tasks
        self.scheduling.follow(model.layer_groups().hold_frozen(), self.tasks, trial)
        # The steps per epoch are not known yet; only a run of `max_steps`, or of a fraction of an epoch, has another
        # length than this.
        schedule = self.scheduling.divide(self.args.num_train_epochs)
        if not self._has_own_metrics:
            check_watched(self.args, self.tasks, self._validation, schedule)

    def _follow_model(self) -> None:
        """Make again what depends on the model, its tasks and the training arguments."""
        if not self._has_own_collator:
            tokenizer: Any = self.processing_class
            self.data_collator = MultiTaskDataCollator(tokenizer, self.tasks)
        if not self._has_own_metrics:
            self.compute_metrics = build_compute_metrics(self.tasks)
        distiller = build_distiller(self._distillation, self.tasks, self.train_dataset)
        self.step_losses.follow(self.tasks, self.model.crfs, distiller)
        # Persistent workers have the collator of an earlier model.
        self._eval_dataloaders: dict[str, DataLoader] = {}
        self.callbacks.follow(self.model, self.accelerator)
        self.sharing.follow()
        self.word_dropout = build_word_dropout(self.args.word_dropout, self.processing_class)
        self.dataloaders.follow(self.tasks, self.accelerator)
        for place, rows in (("train_dataset", self.train_dataset), ("eval_dataset", self.eval_dataset)):
            check_rows(rows, place, self._has_collator, self.model.config)
        save_special_tokens(self.model, self.processing_class)
        decayed = self.get_decay_parameter_names(self.model)
        self.weights = TrainedWeights(self.model, decayed, self.args.weight_decay)

    def call_model_init(self, trial: Any = None) -> MultiTaskModel:
        """Return a new model of ``model_init``, without the wrapper of ``get_peft_model`` if it has one."""
        return unwrapped(super().call_model_init(trial))

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> Any:
        """Search as ``Trainer`` does, also in a process where a training has failed before."""
        # Accelerate keeps a weak reference to the data loader of a failed training, and Ray pickles all that it keeps.
        self.accelerator.gradient_state.dataloader_references = [None]
        return super().hyperparameter_search(*args, **kwargs)

    def _hp_search_setup(self, trial: Any) -> None:
        """Set up the training of a model of ``model_init``: the Trainer has just made it, and now the arguments."""
        super()._hp_search_setup(trial)
        if self.model_init is None:
            return
        self.args.check()
        check_training_rows(self.train_dataset, self.args.length_column_name, self.args.max_tokens_per_batch)
        self._set_schedule(self.model, trial)
        self._follow_model()
        self._begin_training()

    # The schedule.

    @property
    def freeze_callback(self) -> MultiTaskFreezeCallback:
        """Callback that follows the schedule."""
        return self.scheduling.callback

    @property
    def layer_groups(self) -> LayerGroups:
        """Layer groups of the model."""
        return self.scheduling.groups

    @property
    def freeze_schedule(self) -> FreezeSchedule | None:
        """Schedule of the run, None without one. It is the object that the run follows.

        Presets take shares of the run's length, or of ``num_train_epochs`` if the trainer has no training rows.
        """
        return self.resolve_schedule() if self.scheduling.is_given else None

    def resolve_schedule(self) -> FreezeSchedule:
        """Return `freeze_schedule`, or without a schedule a single stage that trains everything."""
        if self.freeze_callback.run is not None:
            return self.freeze_callback.run.schedule
        if self.train_dataset is None:
            return self.scheduling.schedule_of(self.args.num_train_epochs)
        steps_per_epoch, max_steps = self.run_length()
        return self.scheduling.schedule_of(max_steps / steps_per_epoch)

    def run_length(self) -> tuple[int, int]:
        """Return the optimizer steps per epoch and of the run."""
        _, steps_per_epoch, *_, max_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        return steps_per_epoch, max_steps

    def plan(self) -> StagePlans:
        """Return what each stage will train, with rates and memory; without a schedule, one stage trains all."""
        return self.scheduling.plan(*self.run_length(), *self.get_optimizer_cls_and_kwargs(self.args, self.model))

    # What other objects ask for.

    def _freeze_hooks(self) -> FreezeHooks:
        return FreezeHooks(
            output_folder=lambda: Path(self._get_output_dir(self._trial)),
            peak_rates=lambda stage: self.scheduling.peak_rates(stage),
            rebuild_ddp=lambda: rebuild_ddp(self.model_wrapped, self.accelerator.ddp_handler),
            validation_sample=lambda: validation_sample(self.eval_dataset, self.data_collator, self.args.device),
            settle_ema=lambda: self.callbacks.settle_average(),
            autocast=lambda: self.accelerator.autocast(),
            caches_frozen_layers=lambda: self.caching.caches_layers,
        )

    def _caching_hooks(self) -> CachingHooks:
        return CachingHooks(
            parts=lambda: CachedParts(
                self.accelerator, self.model, self.layer_groups.undivided(), self.data_collator, self.train_dataset
            ),
            state=lambda: self.state,
            scheduled_stages=self.freeze_callback.remaining_stages,
            train_dataloader=lambda: self.callback_handler.train_dataloader,
            autocast=lambda: self.accelerator.autocast(),
        )

    def _sharing_hooks(self) -> SharingHooks:
        return SharingHooks(
            parts=lambda: SharingParts(
                self.model, self.layer_groups, self.accelerator, self.data_collator, self.train_dataset
            ),
            step=lambda: self.state.global_step,
            prepare=lambda batch: self._prepare_inputs(batch),
            autocast=lambda: self.accelerator.autocast(),
            log=lambda values: self.log(values),
            has_teacher=lambda: self.step_losses.distiller is not None or self._protection() is not None,
        )

    def _protection(self) -> Teacher | None:
        """Return the model at the start of the stage, if the stage protects heads."""
        return None if self.freeze_callback.run is None else self.freeze_callback.run.teacher

    def _loss_sums(self) -> LossSums:
        return LossSums(self._tr_loss.item(), self._total_loss_scalar, self._globalstep_last_logged)

    def _set_loss_sums(self, sums: LossSums) -> None:
        self._tr_loss.fill_(sums.since_log)
        self._total_loss_scalar, self._globalstep_last_logged = sums.before_log, sums.last_logged_step

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
                check_tasks(self.tasks, self.model.config.tasks)
                self._begin_training()
            resume_from_checkpoint = find_checked(str(self.args.output_dir), resume_from_checkpoint)
            with explain_checkpoint_errors(str(self.args.output_dir), resume_from_checkpoint):
                self.dataloaders.begin(resume_from_checkpoint)
                self.callbacks.logged_sums.begin(resume_from_checkpoint, self.args.process_index)
                result = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except NothingTrainsError:
            logger.warning("Every group is frozen: nothing will be learned. The model is a baseline as it is.")
            self.is_in_train = False
            return TrainOutput(global_step=0, training_loss=0.0, metrics={})
        finally:
            self.freeze_callback.interrupt()
            self.caching.end_training()
            self.callbacks.progress.close()
        self.callbacks.task_log.log_rows(self.tasks, self.state.log_history)
        self.dataloaders.log_stream_losses()
        return result._replace(training_loss=self.callbacks.logged_sums.mean_loss(self.state.global_step))

    def _begin_training(self) -> None:
        if self.scheduling.trains_nothing():
            raise NothingTrainsError
        check_tokenizer(self.processing_class, self.model.config)
        if self.is_world_process_zero():
            log_precision(self.args, self.model.dtype)
            if self.args.packing and (self.args.torch_compile or not can_pack(self.model.encoder)):
                logger.warning("packing has no effect: %s", PACKING_NEEDS)
        self.callbacks.begin_training()
        self.sharing.begin_training()
        self.caching.begin_training()

    def get_batch_samples(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], dict[str, torch.Tensor] | None]:
        """Return the batches of one optimizer step, and the number of labeled items of each task on all processes.

        A task's loss is divided by it, so accumulation and the number of processes do not change the loss.
        """
        if self.control.should_training_stop:
            return [], None  # a run that is resumed at its end
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.callbacks.task_log.begin_step()
        self.dataloaders.pop_stream_state(batches)
        if not batches or "labels" not in batches[0]:
            return batches, None
        if self.accelerator.gradient_state.end_of_dataloader:
            batches[-1] = self.dataloaders.drop_padding_rows(batches[-1], self.train_dataset)
        return batches, self.step_losses.count(batches, self.scheduling.protected(self.tasks), device)

    def training_step(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self, model: nn.Module, inputs: Batch, num_items_in_batch: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Train on a batch as ``Trainer`` does, with word dropout or from the cached states of frozen layers."""
        self.caching.cache.begin_step()
        inputs = self.caching.cache.add_states(inputs)
        if self.word_dropout is not None:
            inputs = self.word_dropout(inputs, self.model)
        step = super().training_step
        with self.sharing.batch(model):
            losses = [step(model, part, num_items_in_batch) for part in self.sharing.parts(inputs)]  # type: ignore[arg-type]  # for the model
        return torch.stack(losses).sum()

    def compute_loss(  # type: ignore[override]  # a MultiTaskModel's loss takes the number of items by task
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, MultiTaskOutput]:
        """Compute the loss as ``Trainer`` does, add the distances to teachers, and log the loss by task."""
        inner = {name: value for name, value in inputs.items() if name != TEACHER_COLUMN} | {"return_dict": True}
        if self.args.packing and model.training:
            inner["packed"] = True
        loss, outputs = super().compute_loss(model, inner, True, num_items_in_batch)  # type: ignore[arg-type]
        if model.training:
            loss = self.step_losses.complete(loss, inputs, outputs, num_items_in_batch, self._protection())
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: Batch) -> int:
        """Estimate the operations of a step as ``Trainer`` does, but count the weights only once."""
        return 6 * inputs["input_ids"].numel() * self.weights.count if "input_ids" in inputs else 0

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer with parameter groups by layer group, frozen weights included.

        Raises:
            ValueError: If ``args.optim`` names an optimizer that makes its own parameter groups.
        """
        if self.optimizer is not None:
            return self.optimizer
        given = self.optimizer_cls_and_kwargs
        optimizer_class, kwargs = given or self.get_optimizer_cls_and_kwargs(self.args, self.model)
        check_optimizer_class(self.args.optim, optimizer_class, kwargs)
        groups = self.weights.groups(self.layer_groups.bind(model or self.model), self.scheduling.peak_rates())
        self.optimizer = optimizer_class(groups, **kwargs)
        return self.optimizer

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor | None:
        """Clip the gradients as ``Trainer`` does, but without a walk through all modules at every step."""
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            return super()._clip_grad_norm(model)
        norm = self.accelerator.clip_grad_norm_(self.weights.with_gradients(), self.args.max_grad_norm)
        self.callbacks.divergence.gradient_norm = norm
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ``Trainer`` does, with the losses and labeled rows by task and the learning rates by layer group."""
        if "loss" in logs:
            logs |= self.callbacks.task_log.pop() | self.sharing.entries()
            # The Trainer subtracts the sum of losses from itself to reset it, so a NaN would stay.
            self._tr_loss.zero_()
        if "train_loss" in logs:
            # The Trainer divides by the steps since a checkpoint.
            logs["train_loss"] = self.callbacks.logged_sums.mean_loss(self.state.global_step)
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
        check_rows(dataset, "dataset", self._has_collator, self.model.config)
        rows = prepare_rows(dataset, is_training, self.caching.cache, self.data_collator)
        batches = self.dataloaders.token_batches(dataset, is_training)
        if batches is not None:
            return self.dataloaders.load(rows, is_training, batch_sampler=batches, collate_fn=self.data_collator)
        sampler: Any = self.dataloaders.sampler_function(dataset, is_training, sampler_fn)
        with drop_last_if(is_training, self.args):
            return super()._get_dataloader(rows, description, batch_size, sampler, is_training, dataloader_key)

    # Evaluation.

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self.callbacks.averaged(), self.caching.evaluating():
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self, test_dataset: Dataset, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predict as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self.callbacks.averaged(), self.caching.evaluating():
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def calibrate(self, dataset: Dataset | None = None) -> dict[str, TemperatureFit]:
        """Fit the temperature of each task's scores, and set it in the model's config; log it.

        Labels and losses do not change. Call it after the training; another training needs another call.

        Args:
            dataset: Labeled rows that the model was not trained on. Defaults to ``eval_dataset``.

        Returns:
            The fit by task. A task without a label in the rows, or without a predicted entity, has none and keeps its
            temperature.

        Raises:
            ValueError: If there are no rows.
        """
        return self.fit_scores(dataset, thresholds=False).temperatures

    def fit_thresholds(self, dataset: Dataset | None = None) -> dict[str, ThresholdFit | MinScoreFit]:
        """Fit the threshold of each task that abstains or has ``entity_precision``, and set it in the model's config.

        Minimum scores of entities depend on the temperature: fit it first.

        Args:
            dataset: See `calibrate`. If there are rows out of scope, the threshold is that of the best balance.

        Returns:
            The fit by task. A task without a label in the rows, or without a predicted entity, has none.

        Raises:
            ValueError: If there are no rows.
        """
        fits = self.fit_scores(dataset, temperatures=False)
        return {**fits.thresholds, **fits.min_scores}

    def fit_scores(
        self, dataset: Dataset | None = None, temperatures: bool = True, thresholds: bool = True
    ) -> ScoreFits:
        """Do the work of `calibrate` and `fit_thresholds` with one prediction of the rows.

        Args:
            dataset: See `calibrate`.
            temperatures: Whether to fit temperatures.
            thresholds: Whether to fit thresholds.

        Returns:
            The fits.

        Raises:
            ValueError: If there are no rows.
        """
        rows = self.eval_dataset if dataset is None else dataset
        if not isinstance(rows, datasets.Dataset) or not len(rows):
            raise ValueError(f"dataset: expected a dataset of labeled rows, found {describe_value(rows)}.")
        if thresholds:
            self._fit_statistics()
        collector = ScoreCollector(self.tasks, self.model.crfs, temperatures, thresholds)
        self._collect(collector, rows)
        return collector.fit()

    def _fit_statistics(self) -> None:
        """Fit the statistics of states of tasks that abstain by them on the training rows, if there are any."""
        statistics = self.model.scope_statistics
        if statistics and isinstance(self.train_dataset, datasets.Dataset):
            collector = StateCollector(self.tasks, statistics)
            with collector.watching():
                self._collect(collector, self.train_dataset)
            collector.fit()

    def _collect(self, collector: ScoreCollector | StateCollector, rows: datasets.Dataset) -> None:
        """Let a collector see the logits of rows."""
        self._collector = collector
        try:
            self.predict(sample_rows(rows), metric_key_prefix="calibration")
        finally:
            self._collector = None

    def _collect_batch(
        self,
        collector: ScoreCollector | StateCollector,
        logits: Mapping[str, torch.Tensor],
        labels: Mapping[str, torch.Tensor],
        positions: torch.Tensor | None,
    ) -> None:
        own = num_own_rows(self.accelerator, len(next(iter(logits.values()))))
        own_positions = None if positions is None else positions[:own]
        collector.add(first_rows(logits, own), first_rows(labels, own), own_positions)

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
        """
        check_tasks(self.tasks, self.model.config.tasks)
        with self.caching.cache.evaluating(dataloader):
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        output = with_loss_only(self.tasks, output, metric_key_prefix)
        if metric_key_prefix == "eval" and output.metrics is not None:
            output.metrics.update(self.freeze_callback.measure_drift(metric_key_prefix))
        return in_row_order(dataloader, output)

    def prediction_step(  # type: ignore[override]  # predictions and labels are mappings by task
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, dict[str, dict[str, torch.Tensor]] | None, dict[str, torch.Tensor] | None]:
        """Predict a batch and reduce the logits on the device; see `reduce_step`."""
        inputs = self._prepare_inputs(self.caching.cache.add_states(inputs))
        labels = inputs.pop("labels", None)
        inputs.pop(TEACHER_COLUMN, None)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs, return_dict=True)
        positions = inputs.get("tag_positions")
        if self._collector is not None and labels is not None:
            self._collect_batch(self._collector, outputs["logits"], labels, positions)
        return reduce_step(self.tasks, self.model.crfs, outputs["logits"], labels, positions, prediction_loss_only)

    # Moving average of the weights, and checkpoints.

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint as ``Trainer`` does, if losses and weights are finite. It contains no code."""
        self.callbacks.divergence.check(self.model, self.state.global_step)
        with without_code(self.accelerator.unwrap_model(self.model), self.args.push_to_hub):
            super()._save_checkpoint(model, trial)
        if self.args.should_save:
            add_checksums(Path(self._get_output_dir(trial)), self.state.global_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as ``Trainer`` does, with the moving average of the weights if there is one."""
        with self.callbacks.averaged(), explain_checkpoint_errors(output_dir or str(self.args.output_dir)):
            super().save_model(output_dir, _internal_call)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save more of a checkpoint here, in the last write of all processes before ``trainer_state.json``.

        A checkpoint counts as complete once it contains ``trainer_state.json``, which the main process writes next. So
        the position in a stream and the weights behind a moving average must be on the disk by then, on all processes.
        """
        super()._save_rng_state(output_dir)
        self.dataloaders.save(output_dir)
        self.callbacks.logged_sums.save(output_dir, self.args.process_index)
        self.callbacks.save_average(output_dir)
        self.sharing.save(output_dir)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.callbacks.load_average(resume_from_checkpoint)
        self.sharing.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self.callbacks.reset_average()

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

        The scores are those that the trainer has recorded for its current weights. For the arguments, see
        `training_facts` and `card_metadata`.
        """
        if self.is_world_process_zero():
            sets = {"train": self.train_dataset, "validation": self.eval_dataset}
            facts = training_facts(self.args, self.state, self.tasks, sets, data, folds, dataset, dataset_args)
            metadata = card_metadata(language, license, tags, finetuned_from, tasks, dataset_tags)
            config, folder = self.accelerator.unwrap_model(self.model).config, str(self.args.output_dir)
            write_card(folder, config, self.hub_model_id, facts, model_name, metadata)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload as ``Trainer`` does; arguments of `create_model_card`, such as ``data``, may be given too.

        Raises:
            ConnectionError: If the upload fails.
            ValueError: If the model has adapters of an encoder that is not on the hub.
        """
        self.accelerator.unwrap_model(self.model).check_pushable()
        name = self.hub_model_id or self.args.hub_model_id or Path(str(self.args.output_dir)).name
        with explain_upload_errors(name):
            return super().push_to_hub(*args, **kwargs)
