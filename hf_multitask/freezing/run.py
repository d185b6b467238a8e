"""One training run that follows a freeze schedule."""

import difflib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

from ..models.layer_groups import LayerGroups
from ..runtime.training_history import TrainingHistory
from .apply import set_modes, train_only
from .checks import check_arguments, check_fsdp, check_optimizer
from .compilation import raise_recompile_limit
from .replay import Progress, Transition, check_watched_metrics, replay
from .schedule import SCHEDULE_NAME, FreezeSchedule
from .snapshots import Snapshots
from .stage import FreezeStage
from .stage_results import write_stage_results

logger = logging.getLogger(__name__)

# Key of what a run keeps in the trainer's state, and so in every checkpoint.
STATE_KEY = "freeze_schedule"


@dataclass(frozen=True)
class RunSetup:
    """A schedule and the objects that one call of ``Trainer.train`` works with.

    Args:
        schedule: Schedule of the run.
        groups: Layer groups of the model, bound to its weights.
        steps_per_epoch: Optimizer steps per epoch.
        args: Arguments of the trainer.
        state: State of the trainer.
        model: The model, not wrapped.
        optimizer: The optimizer.
        lr_scheduler: The learning rate scheduler.
    """

    schedule: FreezeSchedule
    groups: LayerGroups
    steps_per_epoch: int
    args: TrainingArguments
    state: TrainerState
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    lr_scheduler: LambdaLR


class FreezeRun:
    """Follows a schedule through one call of ``Trainer.train``.

    The position in the schedule is replayed from the trainer's state. This object only keeps what it has already done.

    Args:
        setup: The schedule and the objects of the training.
    """

    def __init__(self, setup: RunSetup) -> None:
        self.schedule = setup.schedule
        self.groups = setup.groups
        self.steps_per_epoch = setup.steps_per_epoch
        self.args = setup.args
        self.state = setup.state
        self.model = setup.model
        self.optimizer = setup.optimizer
        self.lr_scheduler = setup.lr_scheduler
        self.snapshots = Snapshots(self.args.output_dir)
        self.weights = {name: weight for group in self.groups for name, weight in group.parameters.items()}
        self.initial_requires_grad = {name: weight.requires_grad for name, weight in self.weights.items()}
        self.eval_on_start = self.args.eval_on_start
        self.mark = time.perf_counter()
        self.while_training = ExitStack()

    @property
    def stage(self) -> FreezeStage:
        """The current stage."""
        return self.schedule.stages[self.current.stage]

    def remaining_stages(self) -> list[tuple[Sequence[str], float]]:
        """Return the groups that train and the maximum number of epochs, stage by stage from now on."""
        step, last = self.state.global_step, self.state.max_steps
        end = self.progress.next_boundary or last
        stages: list[tuple[Sequence[str], float]] = [
            (self.current.trained, (min(end, last) - step) / self.steps_per_epoch)
        ]
        for stage in self.schedule.stages[self.current.stage + 1 :]:
            step, length = end, stage.max_steps(self.steps_per_epoch)
            end = last if length is None else step + length
            stages.append((stage.trained(self.groups), max(min(end, last) - step, 0) / self.steps_per_epoch))
        return stages

    # What a trainer that does more extends.

    def check(self) -> None:
        """Refuse what would train something else than the schedule says.

        Raises:
            ValueError: If the schedule cannot hold in this training.
        """
        check_arguments(self.schedule, self.args)
        state = AcceleratorState()
        check_fsdp(self.schedule, state.distributed_type, getattr(state, "fsdp_plugin", None))
        self.schedule.check_length(self.steps_per_epoch, self.state.max_steps)
        for stage in self.schedule.stages:
            self.schedule.best_metric(stage, self.args.metric_for_best_model)
        check_optimizer(self.groups, self.schedule.trained(self.groups), self.optimizer)

    def train_only(self, trained: Sequence[str]) -> None:
        """Freeze all groups but some."""
        train_only(self.model, self.groups, trained)

    def describe(self, change: Transition) -> dict[str, Any]:
        """Return what else the log says about a change."""
        return {}

    def enter(self, change: Transition) -> None:
        """Make a change: weights that come back, what trains, the log, the results."""
        self.count_seconds()
        if self.entered:
            before = [group.name for group in self.groups if group.trainable]
        else:
            before = [
                group.name
                for group in self.groups
                if any(self.initial_requires_grad[name] for name in group.parameters)
            ]
        if change.restore_step is not None:
            self._restore_weights(change.restore_step)
        self.entered.append(change)
        self.current = change
        self.train_only(change.trained)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        entry = {
            "freeze_stage": self.stage.name,
            "freeze_reason": change.reason,
            "unfrozen_groups": [name for name in change.trained if name not in before],
            "frozen_groups": [name for name in before if name not in change.trained],
            "trainable_parameters": sum(group.num_parameters for group in self.groups if group.trainable),
            **self.describe(change),
        }
        if change.restore_step is not None:
            entry["restored_step"] = change.restore_step
        self._log(entry)
        self._write_results()

    # What the callback calls.

    def begin(self, control: TrainerControl) -> None:
        """Check that the schedule can hold, and freeze what is frozen at this step."""
        self.check()
        if self.args.torch_compile:
            self.while_training.enter_context(raise_recompile_limit(len(self.schedule.stages)))
        self.measured = self._read_record()
        self._warn_of_risks()
        step = self.state.global_step
        self.progress = self._replay()
        # The changes of this very step are still to be made: a checkpoint is written before them.
        self.entered = [change for change in self.progress.transitions if change.step < step]
        self.current = self.progress.before(step)
        self.train_only(self.current.trained)
        self.is_new = True
        # Where the schedule watches metrics, an evaluation before the first step shows that they exist and what they
        # are at the start.
        self.args.eval_on_start = self.eval_on_start or (step == 0 and self.schedule.needs_evaluation)
        control.should_training_stop = self.was_finished = self.progress.finished
        self.is_save_put_off = False

    def begin_step(self) -> None:
        """Enter the next stage where it begins with this step."""
        boundary = self.progress.next_boundary
        if not self.is_new and (boundary is None or self.state.global_step < boundary):
            return
        self.is_new = False
        self.args.eval_on_start = self.eval_on_start
        try:
            self._check_metrics()
        except ValueError:
            self.release()
            raise
        self.progress = self._replay()
        if self.progress.finished:
            raise ValueError(
                f"freeze schedule: its last stage ended at step {self.progress.current.step} "
                f"({self.progress.current.reason}); there is nothing left to train."
            )
        for change in self.progress.transitions[len(self.entered) :]:
            self.enter(change)

    def measure_memory(self) -> None:
        """Keep the stage's peak memory: of the device, or without one the resident memory of the process."""
        on_device = torch.cuda.is_available()
        used = torch.cuda.max_memory_allocated() if on_device else psutil.Process().memory_info().rss
        record = self._stage_record()
        record["peak_memory_bytes"] = max(record["peak_memory_bytes"], used)

    def count_seconds(self) -> None:
        """Add the time since the last call to the stage's."""
        now = time.perf_counter()
        self._stage_record()["seconds"] += now - self.mark
        self.mark = now

    def end_step(self, control: TrainerControl) -> None:
        """Count the stage's time, and put a checkpoint off until the evaluation of its step.

        One written in front of the evaluation at an epoch's end would lack it, and the state of the random generators
        behind it.
        """
        self.count_seconds()
        ends_epoch = self.state.global_step % self.steps_per_epoch == 0 or control.should_training_stop
        if self.args.eval_strategy == "epoch" and ends_epoch and control.should_save:
            control.should_save = False
            self.is_save_put_off = True
        self._log_loss_if_needed(control)

    def end_epoch(self, control: TrainerControl) -> None:
        """Let the checkpoint be written that was put off."""
        if self.is_save_put_off:
            self.is_save_put_off, control.should_save = False, True
        if self.was_finished:
            # A run that is resumed at its end has been evaluated and saved.
            control.should_log = control.should_evaluate = control.should_save = False
        self._log_loss_if_needed(control)

    def _log_loss_if_needed(self, control: TrainerControl) -> None:
        """Let the training loss be logged with each evaluation and checkpoint where the schedule compares it.

        The Trainer forgets losses that are not yet logged when it is resumed.
        """
        if self.schedule.watches_gap and (control.should_save or control.should_evaluate):
            control.should_log = True

    def see_evaluation(self, control: TrainerControl) -> None:
        """Keep the stage's best weights, and stop where the schedule ends."""
        self.is_new = True
        try:
            self._check_metrics()
        except ValueError:
            return  # of several validation sets, another may come; the next step finds out
        progress = self._replay()
        same_stage = progress.current.stage == self.current.stage
        if same_stage and progress.best_step == self.state.global_step:
            self.save_weights("best")
        if progress.finished and not self.progress.finished:
            self.progress = progress
            self._log({"freeze_stage": None, "freeze_reason": progress.current.reason})
            control.should_training_stop = True

    def save_schedule(self, folder: Path) -> None:
        """Write the schedule into a checkpoint, and remove what no checkpoint can need any more."""
        if self.args.should_save and folder.is_dir():
            self.schedule.save(folder / SCHEDULE_NAME)
            self.snapshots.prune(self.state.global_step)

    def end(self) -> None:
        """Write schedule and stage results, and let the model train as it did before."""
        self.args.eval_on_start = self.eval_on_start
        self.count_seconds()
        if unreached := [stage.name for stage in self.schedule.stages[self.current.stage + 1 :]]:
            logger.warning("Freeze schedule: the run ended before stage %s.", ", ".join(unreached))
        self._write_results()
        if self.args.should_save:
            self.schedule.save(Path(self.args.output_dir, SCHEDULE_NAME))
            self.snapshots.prune()
        self.release()

    def save_weights(self, kind: str) -> None:
        """Keep the weights that the stage trains, as they are now."""
        if self.args.should_save:
            weights = self.groups.parameters_of(self.stage.trained(self.groups))
            self.snapshots.save(kind, self.state.global_step, weights)

    def release(self) -> None:
        """Let the model train as it did before."""
        for name, weight in self.weights.items():
            weight.requires_grad_(self.initial_requires_grad[name])
        set_modes(self.model, self.groups)
        self.while_training.close()

    def _restore_weights(self, step: int) -> None:
        PartialState().wait_for_everyone()
        with torch.no_grad():
            for name, weight in self.snapshots.load("best", step).items():
                self.weights[name].copy_(weight)
                # Its moments belong to the steps that are taken back.
                self.optimizer.state.pop(self.weights[name], None)
        PartialState().wait_for_everyone()

    def _check_metrics(self) -> None:
        if evaluations := TrainingHistory(self.state.log_history).evaluations():
            check_watched_metrics(self.schedule, self.args.metric_for_best_model, list(evaluations[-1].metrics))

    def _replay(self) -> Progress:
        evaluations = TrainingHistory(self.state.log_history).evaluations()
        if self.args.world_size > 1 and self.schedule.needs_evaluation:
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

    def _log(self, entry: Mapping[str, Any]) -> None:
        self.state.log_history.append({**entry, "epoch": self.state.epoch, "step": self.state.global_step})
        if PartialState().is_main_process:
            logger.info("Step %d: %s", self.state.global_step, _in_words(entry))

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
        if self.state.global_step == 0:
            if self.args.should_save:
                self.snapshots.clear()
            self.state.stateful_callbacks[STATE_KEY] = {"schedule": schedule, "stages": {}}
        recorded = self.state.stateful_callbacks.get(STATE_KEY)
        if recorded is None or recorded["schedule"] != schedule:
            before = "" if recorded is None else FreezeSchedule.from_dict(recorded["schedule"]).to_yaml()
            changed = difflib.unified_diff(
                before.splitlines(), self.schedule.to_yaml().splitlines(), "checkpoint", "now", lineterm=""
            )
            found = "none" if recorded is None else "another one"
            raise ValueError(
                f"freeze schedule: the run that is resumed had {found}. Resume with the same, or start anew.\n"
                + "\n".join(changed)
            )
        return recorded["stages"]

    def _stage_record(self) -> dict[str, float]:
        return self.measured.setdefault(self.stage.name, {"seconds": 0.0, "peak_memory_bytes": 0})

    def _write_results(self) -> None:
        if self.args.should_save:
            write_stage_results(
                Path(self.args.output_dir),
                self.schedule,
                self.groups,
                self.entered,
                self.state,
                self.steps_per_epoch,
                self.measured,
            )


def _in_words(entry: Mapping[str, Any]) -> str:
    if entry["freeze_stage"] is None:
        return f"the freeze schedule is at its end: {entry['freeze_reason']}"
    changes = [
        f"{verb} {', '.join(entry[key])}"
        for verb, key in (("unfreeze", "unfrozen_groups"), ("freeze", "frozen_groups"))
        if entry[key]
    ]
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in entry.get("learning_rates", {}).items())
    what = "; ".join(changes) or "the same groups train"
    how = f" Peak learning rates: {rates}." if rates else ""
    return (
        f"stage {entry['freeze_stage']!r} ({entry['freeze_reason']}): {what}. "
        f"{entry['trainable_parameters']:,} parameters train.{how}"
    )
