"""Freezing in stages with any Trainer."""

import difflib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from ..models.layer_groups import LayerGroups, layer_groups
from .apply import set_modes, train_only
from .checks import check_arguments, check_fsdp, check_optimizer, check_replicas, looks_for_unused_parameters
from .presets import build_schedule
from .progress import Progress, Transition, check_watched_metrics, read_evaluations, replay
from .results import write_stage_results
from .schedule import SCHEDULE_NAME, FreezeSchedule
from .snapshots import Snapshots

logger = logging.getLogger(__name__)

# Key of what the callback keeps in the trainer's state, and so in every checkpoint.
STATE_KEY = "freeze_schedule"


class FreezeCallback(TrainerCallback):
    """Freezes and unfreezes groups of a model's layers while a ``Trainer`` trains.

    It works with a plain ``transformers.Trainer`` and any model with one encoder, on one process and under DDP. The
    stage is computed from the trainer's recorded state, so a resumed run goes on where it was. At the end of the
    training the model trains as a whole again. Give it to the trainer's constructor: ``Trainer(callbacks=[…])``.

    Args:
        schedule: The schedule, or what `freezing.build_schedule` makes one of: a preset's name, a file, groups that
            are frozen throughout, stages.

    Raises:
        ValueError: Before the first step, if the schedule cannot hold in this training.
    """

    def __init__(self, schedule: FreezeSchedule | str | Path | Sequence[str] | Mapping[str, Any]) -> None:
        self.spec = schedule
        self.schedule: FreezeSchedule | None = None
        self.groups: LayerGroups | None = None
        # Where the run is; None while nothing trains.
        self.progress: Progress | None = None

    def on_init_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Find the groups while the model is not wrapped."""
        if model is not None:
            self.groups = layer_groups(model)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        train_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        """Check that the schedule can hold, and freeze what is frozen at this step."""
        self.model, self.optimizer, self.state, self.args = model, optimizer, state, args
        self.groups = (self.groups or layer_groups(model)).bind(model)
        self.steps_per_epoch = _steps_per_epoch(args, state, train_dataloader)
        epochs = state.max_steps / self.steps_per_epoch
        self.schedule = build_schedule(self.spec, self.groups, epochs, args.metric_for_best_model)
        self._check()
        self.snapshots = Snapshots(args.output_dir)
        self.measured = self._read_record()
        self.as_found = {
            name: weight.requires_grad for group in self.groups for name, weight in group.parameters.items()
        }
        self.progress = self._replay()
        self.entered = [change for change in self.progress.transitions if change.step < state.global_step]
        self.is_new = True
        self.current = self.progress.before(state.global_step)
        self._train_only(self.current.trained)
        self._warn_of_risks()
        self.mark = time.perf_counter()
        # Where the schedule watches metrics, an evaluation before the first step shows that they exist and what they
        # are at the start; one that the run was killed in front of is made up for.
        self.eval_on_start = args.eval_on_start
        args.eval_on_start = args.eval_on_start or self._lacks_evaluation()
        # An ended run that is resumed.
        control.should_training_stop = self.progress.finished

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Enter the next stage where it begins with this step."""
        boundary = self.progress.next_boundary
        if not self.is_new and (boundary is None or state.global_step < boundary):
            return
        args.eval_on_start = self.eval_on_start
        self.is_new = False
        self._check_metrics()
        self.progress = self._replay()
        if self.progress.finished:
            raise ValueError(
                f"freeze schedule: its last stage ended at step {self.progress.current.step} "
                f"({self.progress.current.reason}); there is nothing left to train."
            )
        for change in self.progress.transitions[len(self.entered) :]:
            self._enter(change)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the memory while gradients and optimizer state are there."""
        record = self._stage_record()
        if torch.cuda.is_available():
            used = torch.cuda.max_memory_allocated()
        else:
            used = psutil.Process().memory_info().rss
        record["peak_memory_bytes"] = max(record["peak_memory_bytes"], used)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the stage's time, and let the training loss be logged where the schedule needs it."""
        self._count_seconds()
        self._log_loss_with(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the training loss be logged where the schedule needs it."""
        self._log_loss_with(control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the stage's best weights, and stop where the schedule ends."""
        if self.progress is None:
            return
        self.is_new = True
        try:
            self._check_metrics()
        except ValueError:
            return  # of several validation sets, another may come; the next step finds out
        progress = self._replay()
        same_stage = progress.current.stage == self.current.stage
        if same_stage and progress.best_step == state.global_step and args.should_save:
            self._save_weights("best", self.schedule.stages[self.current.stage].trained(self.groups))
        if progress.finished:
            self.progress = progress
            self._log_end(progress.current)
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the schedule into the checkpoint."""
        if args.should_save:
            self.schedule.save(Path(args.output_dir, f"checkpoint-{state.global_step}", SCHEDULE_NAME))
            self.snapshots.prune(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write schedule and stage results, and let the model train as it did before."""
        args.eval_on_start = self.eval_on_start
        self._count_seconds()
        unreached = [stage.name for stage in self.schedule.stages[self.current.stage + 1 :]]
        if unreached:
            logger.warning("Freeze schedule: the run ended before stage %s.", ", ".join(unreached))
        if args.should_save:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            self.schedule.save(Path(args.output_dir, SCHEDULE_NAME))
            self._write_results()
            self.snapshots.prune()
        for group in self.groups:
            for name, weight in group.parameters.items():
                weight.requires_grad_(self.as_found[name])
        set_modes(self.model, self.groups)
        self.progress = None

    # What a trainer that does more may extend.

    def _check(self) -> None:
        """Refuse what would train something else than the schedule says."""
        self._check_common()
        if self.schedule.sets_rates or self.schedule.protect:
            raise ValueError(
                "freeze schedule: learning rates by stage and `protect` need MultiTaskTrainer(freeze_schedule=…), found "
                "a plain Trainer. Leave learning_rate, head_learning_rate, layer_lr_decay (in the preset 'gradual': "
                "{preset: gradual, layer_lr_decay: null}), warmup_steps, lr_scheduler_type, lower_lr and protect out."
            )
        check_replicas(
            self.groups, self._scheduled(), self.args.world_size, looks_for_unused_parameters(self.args, self.model)
        )

    def _train_only(self, trained: Sequence[str]) -> None:
        """Freeze all groups but some."""
        train_only(self.model, self.groups, trained)

    def _enter(self, change: Transition) -> None:
        """Make a change: weights that come back, what trains, the log, the results."""
        self._count_seconds()
        before = [group.name for group in self.groups if group.trainable] if self.entered else self._trained_as_found()
        if change.restore_step is not None:
            self._restore_weights(change.restore_step)
        self.entered.append(change)
        self.current = change
        self._train_only(change.trained)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        entry = {
            "freeze_stage": self.schedule.stages[change.stage].name,
            "freeze_reason": change.reason,
            "unfrozen_groups": [name for name in change.trained if name not in before],
            "frozen_groups": [name for name in before if name not in change.trained],
            "trainable_parameters": sum(group.num_parameters for group in self.groups if group.trainable),
            **self._describe(change),
        }
        if change.restore_step is not None:
            entry["restored_step"] = change.restore_step
        self._log(entry)
        if self.args.should_save:
            self._write_results()

    def _describe(self, change: Transition) -> dict[str, Any]:
        """Return what else the log says about a change."""
        return {}

    # How it is done.

    def _check_common(self) -> None:
        check_arguments(self.schedule, self.args)
        state = AcceleratorState()
        check_fsdp(self.schedule, state.distributed_type, getattr(state, "fsdp_plugin", None))
        self.schedule.check_length(self.steps_per_epoch, self.state.max_steps)
        for stage in self.schedule.stages:
            self.schedule.best_metric(stage, self.args.metric_for_best_model)
        check_optimizer(self.groups, self._scheduled(), self.optimizer)

    def _scheduled(self) -> set[str]:
        return {name for stage in self.schedule.stages for name in stage.trained(self.groups)}

    def _check_metrics(self) -> None:
        if evaluations := read_evaluations(self.state.log_history):
            check_watched_metrics(self.schedule, self.args.metric_for_best_model, list(evaluations[-1].metrics))

    def _replay(self) -> Progress:
        evaluations = read_evaluations(self.state.log_history)
        if self.args.world_size > 1 and self.schedule.watched_metrics:
            # A metric that differs in its last bit between processes must not part them.
            evaluations = broadcast_object_list([evaluations])[0]
        return replay(
            self.schedule,
            self.groups,
            evaluations,
            self.state.global_step,
            self.steps_per_epoch,
            self.args.metric_for_best_model,
        )

    def _lacks_evaluation(self) -> bool:
        if not self.schedule.watched_metrics and self.progress.best_step is None:
            return False
        step = self.state.global_step
        if step == 0:
            return True
        evaluated = any(evaluation.step == step for evaluation in read_evaluations(self.state.log_history))
        return self.args.eval_strategy == "epoch" and step % self.steps_per_epoch == 0 and not evaluated

    def _log_loss_with(self, control: TrainerControl) -> None:
        # The gap counts the losses since the evaluation before. The Trainer forgets those not yet logged when it is
        # resumed, so none must be left over at a checkpoint.
        if self.schedule.watches_gap and (control.should_save or control.should_evaluate):
            control.should_log = True

    def _save_weights(self, kind: str, trained: Sequence[str]) -> None:
        weights = {
            name: weight for group in self.groups if group.name in trained for name, weight in group.parameters.items()
        }
        self.snapshots.save(kind, self.state.global_step, weights)

    def _restore_weights(self, step: int) -> None:
        PartialState().wait_for_everyone()
        current = {name: weight for group in self.groups for name, weight in group.parameters.items()}
        with torch.no_grad():
            for name, weight in self.snapshots.load("best", step).items():
                current[name].copy_(weight)
                # Its moments belong to the steps that are taken back.
                self.optimizer.state.pop(current[name], None)
        PartialState().wait_for_everyone()

    def _trained_as_found(self) -> list[str]:
        return [group.name for group in self.groups if any(self.as_found[name] for name in group.parameters)]

    def _log(self, entry: Mapping[str, Any]) -> None:
        self.state.log_history.append({**entry, "epoch": self.state.epoch, "step": self.state.global_step})
        if PartialState().is_main_process:
            logger.info("Step %d: %s", self.state.global_step, _in_words(entry))

    def _log_end(self, change: Transition) -> None:
        self._log({"freeze_stage": None, "freeze_reason": change.reason})

    def _warn_of_risks(self) -> None:
        for stage in self.schedule.stages:
            heads = self.schedule.at_risk(stage.trained(self.groups), self.groups)
            if heads and PartialState().is_main_process:
                logger.warning(
                    "Stage %r freezes %s while the encoder below trains: the inputs of a head that cannot follow will "
                    "drift. Watch its metric, or hold it with `protect`.",
                    stage.name,
                    " and ".join(heads),
                )

    def _read_record(self) -> dict[str, dict[str, float]]:
        """Return what was measured by stage, kept in the trainer's state; refuse another schedule's run."""
        schedule = self.schedule.to_dict()
        recorded = self.state.stateful_callbacks.get(STATE_KEY)
        if self.state.global_step > 0 and (recorded is None or recorded["schedule"] != schedule):
            before = "" if recorded is None else FreezeSchedule.from_dict(recorded["schedule"]).to_yaml()
            changed = difflib.unified_diff(
                before.splitlines(), self.schedule.to_yaml().splitlines(), "checkpoint", "now", lineterm=""
            )
            raise ValueError(
                "freeze schedule: the run that is resumed had "
                + ("none" if recorded is None else "another one")
                + ". Resume with the same, or start anew.\n"
                + "\n".join(changed)
            )
        if recorded is None or self.state.global_step == 0:
            recorded = {"schedule": schedule, "stages": {}}
            if self.args.should_save:
                self.snapshots.clear()
        self.state.stateful_callbacks[STATE_KEY] = recorded
        return recorded["stages"]

    def _stage_record(self) -> dict[str, float]:
        name = self.schedule.stages[self.current.stage].name
        return self.measured.setdefault(name, {"seconds": 0.0, "peak_memory_bytes": 0})

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self._stage_record()["seconds"] += now - self.mark
        self.mark = now

    def _write_results(self) -> None:
        write_stage_results(
            Path(self.args.output_dir),
            self.schedule,
            self.groups,
            self.entered,
            self.state,
            self.steps_per_epoch,
            self.measured,
        )


def _steps_per_epoch(args: TrainingArguments, state: TrainerState, dataloader: DataLoader | None) -> int:
    """Return the optimizer steps of an epoch, as the Trainer counts them."""
    if dataloader is None or not has_length(dataloader):
        return state.max_steps
    return max(-(-len(dataloader) // args.gradient_accumulation_steps), 1)


def _in_words(entry: Mapping[str, Any]) -> str:
    if entry["freeze_stage"] is None:
        return f"the freeze schedule is at its end: {entry['freeze_reason']}"
    changes = [
        f"{verb} {', '.join(entry[key])}"
        for verb, key in (("unfreeze", "unfrozen_groups"), ("freeze", "frozen_groups"))
        if entry[key]
    ]
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in entry.get("learning_rates", {}).items())
    return (
        f"stage {entry['freeze_stage']!r} ({entry['freeze_reason']}): {'; '.join(changes) or 'the same groups train'}. "
        f"{entry['trainable_parameters']:,} parameters train." + (f" Peak learning rates: {rates}." if rates else "")
    )
