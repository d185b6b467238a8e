"""One call of ``Trainer.train`` that follows a freeze schedule."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from transformers import TrainerControl
from transformers.trainer_utils import IntervalStrategy

from ..models.layer_groups import layer_ranges
from ..models.type_aliases import JsonObject
from ..runtime.training_history import TrainingHistory
from .apply import set_modes, train_only
from .checks import check_arguments, check_fsdp, check_optimizer
from .compilation import raise_recompile_limit
from .convergence import CACHES_KEY, DISTANCES_KEY, Span, read_measurements
from .convergence_meter import ConvergenceMeter
from .rates import rates_in_words
from .replay import RUN_STARTS, Progress, Transition, check_watched_metrics, replay
from .run_setup import RunSetup
from .schedule import SCHEDULE_NAME
from .snapshots import Snapshots
from .stage import FreezeStage
from .stage_recorder import StageRecorder

logger = logging.getLogger(__name__)


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
        self.folder = setup.folder
        self.snapshots = Snapshots(setup.folder)
        self.recorder = StageRecorder(setup)
        # Only in a stage that freezes layers which have stopped learning.
        self.meter: ConvergenceMeter | None = None
        self.weights = {name: weight for group in self.groups for name, weight in group.parameters.items()}
        self.initial_requires_grad = {name: weight.requires_grad for name, weight in self.weights.items()}
        # Nothing is replayed before `begin`.
        self.progress = Progress((), finished=False, next_boundary=None, best_step=None)
        # Changes that have been made, by this run or before it was resumed.
        self.entered: list[Transition] = []
        self._exit_stack = ExitStack()
        self._initial_eval_on_start = self.args.eval_on_start
        # Whether something has happened since the last replay that may end the stage before its bound.
        self._needs_replay = True
        self._save_deferred = False

    @property
    def current(self) -> Transition:
        """The last change that was made: what is in effect now."""
        return self.entered[-1] if self.entered else self.progress.before(self.state.global_step)

    @property
    def stage(self) -> FreezeStage:
        """The current stage."""
        return self.schedule.stages[self.current.stage]

    def remaining_stages(self) -> list[tuple[Sequence[str], float]]:
        """Return the groups that train and the maximum number of epochs, stage by stage from now on."""
        step, last = self.state.global_step, self.state.max_steps
        end = self.progress.next_boundary or last
        first = (min(end, last) - step) / self.steps_per_epoch
        stages: list[tuple[Sequence[str], float]] = [(self.current.trained, first)]
        for stage in self.schedule.stages[self.current.stage + 1 :]:
            step, length = end, stage.max_steps(self.steps_per_epoch)
            end = last if length is None else step + length
            stages.append((stage.trained(self.groups), max(min(end, last) - step, 0) / self.steps_per_epoch))
        return stages

    # Subclasses extend these.

    def check(self) -> None:
        """Check that the training will do what the schedule says.

        Raises:
            ValueError: If it would not, whatever the metrics turn out to be.
        """
        check_arguments(self.schedule, self.args)
        state = AcceleratorState()
        check_fsdp(self.schedule, state.distributed_type, getattr(state, "fsdp_plugin", None))
        self.schedule.check_length(self.steps_per_epoch, self.state.max_steps)
        for stage in self.schedule.stages:
            self.schedule.best_metric(stage, self.args.metric_for_best_model)
        check_optimizer(self.groups, self.schedule.trained(self.groups), self.optimizer)

    def train_only(self, trained: Sequence[str]) -> None:
        """Let some groups train and freeze all others."""
        train_only(self.model, self.groups, trained)

    def caches_frozen_layers(self) -> bool:
        """Return whether the states of frozen layers are computed once and cached."""
        return False

    def describe(self, change: Transition) -> JsonObject:
        """Return further entries of the log about a change."""
        return {}

    def enter(self, change: Transition) -> None:
        """Make a change: restore weights, freeze and unfreeze groups, log it, and write the results so far."""
        self.recorder.count_seconds(self.stage.name)
        if self.entered:
            before = [group.name for group in self.groups if group.trainable]
        else:
            # `begin` has frozen groups already. The log compares with what the user has frozen.
            before = [
                group.name
                for group in self.groups
                if any(self.initial_requires_grad[name] for name in group.parameters)
            ]
        if change.restore_step is not None:
            self._restore_weights(change.restore_step)
        self.entered.append(change)
        if change.starts_stage:
            self._begin_measuring(change.step)
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
        self.recorder.write(self.entered)

    # The callback calls these.

    def begin(self, control: TrainerControl) -> None:
        """Check the schedule, and freeze the groups that are frozen at this step."""
        self.check()
        if self.args.torch_compile:
            self._exit_stack.enter_context(raise_recompile_limit(self._num_graphs()))
        step = self.state.global_step
        if step == 0 and self.args.should_save:
            self.snapshots.clear()
        self.recorder.begin()
        self._warn_of_risks()
        self._log_held()
        self.progress = self._replay()
        # Changes at this very step are still to be made: the checkpoint of a step is written before them.
        self.entered = [change for change in self.progress.transitions if change.step < step]
        if self.entered:
            self._begin_measuring(next(change.step for change in reversed(self.entered) if change.starts_stage))
        self.train_only(self.current.trained)
        # If metrics decide, an evaluation before the first step shows that they exist, and their values at the start.
        self.args.eval_on_start = self._initial_eval_on_start or (step == 0 and self.schedule.needs_evaluation)
        control.should_training_stop = self.progress.finished

    def begin_step(self) -> None:
        """Enter the next stage if it begins with this step.

        Raises:
            ValueError: If the schedule follows a metric that evaluation does not have, or has already ended.
        """
        boundary = self.progress.next_boundary
        if not self._needs_replay and (boundary is None or self.state.global_step < boundary):
            return
        self._needs_replay = False
        self.args.eval_on_start = self._initial_eval_on_start
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
        """Record the memory that the stage uses now."""
        self.recorder.measure_memory(self.stage.name)

    def end_step(self, control: TrainerControl) -> None:
        """Count the stage's time, and defer a checkpoint until the evaluation of its step.

        A checkpoint written before the evaluation at an epoch's end would lack its metrics, and the state that the
        random generators have after it.
        """
        self.recorder.count_seconds(self.stage.name)
        self._measure_distances()
        ends_epoch = self.state.global_step % self.steps_per_epoch == 0 or control.should_training_stop
        if self.args.eval_strategy == "epoch" and ends_epoch and control.should_save:
            control.should_save = False
            self._save_deferred = True
        self._log_loss_if_needed(control)

    def end_epoch(self, control: TrainerControl) -> None:
        """Let the Trainer write the checkpoint that was deferred."""
        if self._save_deferred:
            self._save_deferred, control.should_save = False, True
        self._log_loss_if_needed(control)

    def see_evaluation(self, control: TrainerControl) -> None:
        """Keep the weights if they are the stage's best, and stop at the end of the schedule."""
        self._needs_replay = True
        try:
            self._check_metrics()
        except ValueError:
            # One of several validation sets may lack the metric. The next step fails if they all do.
            return
        progress = self._replay()
        same_stage = progress.current.stage == self.current.stage
        if same_stage and progress.best_step == self.state.global_step:
            self.save_weights("best")
        if progress.finished and not self.progress.finished:
            self.progress = progress
            self._log({"freeze_stage": None, "freeze_reason": progress.current.reason})
            control.should_training_stop = True

    def save_schedule(self, folder: Path) -> None:
        """Write the schedule to a checkpoint, and remove snapshots that no checkpoint needs any more."""
        if self.args.should_save and folder.is_dir():
            self.schedule.save(folder / SCHEDULE_NAME)
            self.snapshots.prune(self.state.global_step)

    def end(self) -> None:
        """Write the schedule and the results of the stages, and unfreeze what the schedule has frozen."""
        self.args.eval_on_start = self._initial_eval_on_start
        self.recorder.count_seconds(self.stage.name)
        if unreached := [stage.name for stage in self.schedule.stages[self.current.stage + 1 :]]:
            logger.warning("Freeze schedule: the run ended before stage %s.", ", ".join(unreached))
        self.recorder.write(self.entered)
        if self.args.should_save:
            self.schedule.save(self.folder / SCHEDULE_NAME)
            self.snapshots.prune()
        self.release()

    def save_weights(self, kind: str) -> None:
        """Write a snapshot of the weights that the stage trains.

        Args:
            kind: ``"best"`` or ``"start"``.
        """
        if self.args.should_save:
            weights = self.groups.parameters_of(self.stage.trained(self.groups))
            self.snapshots.save(kind, self.state.global_step, weights)

    def release(self) -> None:
        """Let the model train as it did before the run."""
        for name, weight in self.weights.items():
            weight.requires_grad_(self.initial_requires_grad[name])
        set_modes(self.model, self.groups)
        self._exit_stack.close()

    def _begin_measuring(self, start: int) -> None:
        """Measure distances from the start of the stage on, if it freezes layers which have stopped learning."""
        self.meter = None
        if self.stage.converged is None:
            return
        if not self.caches_frozen_layers() and PartialState().is_main_process:
            logger.info(
                "Stage %r: nothing is cached, so that a layer which it freezes saves its backward pass only.",
                self.stage.name,
            )
        units = self.stage.units(self.groups)
        if start == self.state.global_step:
            self.meter = ConvergenceMeter(units, self.groups)
            if self.args.should_save:
                self.snapshots.save("origin", start, self.meter.origin)
        else:
            self.meter = ConvergenceMeter(units, self.groups, self.snapshots.load("origin", start))

    def _measure_distances(self) -> None:
        """Log the distances of the layers, which may freeze them before the next step."""
        interval = Span(self.steps_per_epoch, self.state.max_steps).interval
        if self.meter is None or self.state.global_step % interval:
            return
        distances = self.meter.measure(self.current.trained)
        if distances:
            entry: JsonObject = {DISTANCES_KEY: distances, CACHES_KEY: self.caches_frozen_layers()}
            self.state.log_history.append({**entry, "epoch": self.state.epoch, "step": self.state.global_step})
            self._needs_replay = True

    def _num_graphs(self) -> int:
        """Return the number of sets of groups that may train, each of which has a graph of its own."""
        return sum(1 + len(stage.units(self.groups)) for stage in self.schedule.stages)

    def _log_loss_if_needed(self, control: TrainerControl) -> None:
        """Let the Trainer log the training loss where a stage ends or may end, so that each stage has its own.

        If the schedule compares the loss, it is logged with each checkpoint too: a resumed Trainer has forgotten the
        losses since the last log.
        """
        ends_stage = self.state.global_step == self.progress.next_boundary
        may_end = self.schedule.needs_evaluation and control.should_evaluate
        if self.args.logging_strategy != IntervalStrategy.NO and (ends_stage or may_end):
            control.should_log = True
        if self.schedule.watches_gap and (control.should_save or control.should_evaluate):
            control.should_log = True

    def _restore_weights(self, step: int) -> None:
        # The main process has written the snapshot that all processes read.
        PartialState().wait_for_everyone()
        with torch.no_grad():
            for name, weight in self.snapshots.load("best", step).items():
                self.weights[name].copy_(weight)
                # The moments of the optimizer are from steps that are taken back.
                self.optimizer.state.pop(self.weights[name], None)
        PartialState().wait_for_everyone()

    def _check_metrics(self) -> None:
        if evaluations := TrainingHistory(self.state.log_history).evaluations():
            check_watched_metrics(self.schedule, self.args.metric_for_best_model, list(evaluations[-1].metrics))

    def _replay(self) -> Progress:
        evaluations = TrainingHistory(self.state.log_history).evaluations()
        if self.args.world_size > 1 and self.schedule.needs_evaluation:
            # Metrics may differ in their last bits between processes, which must not enter different stages.
            evaluations = broadcast_object_list([evaluations])[0]
        return replay(
            self.schedule,
            self.groups,
            evaluations,
            self.state.global_step,
            self.steps_per_epoch,
            self.args.metric_for_best_model,
            read_measurements(self.state.log_history),
            self.state.max_steps,
        )

    def _log(self, entry: JsonObject) -> None:
        # Callbacks cannot call `Trainer.log`. This is its part that reaches the checkpoints.
        self.state.log_history.append({**entry, "epoch": self.state.epoch, "step": self.state.global_step})
        if PartialState().is_main_process:
            sentence = _format_change(entry, self.current, len(list(self.groups)))
            logger.info("Step %d: %s", self.state.global_step, sentence)
            if rates := "; ".join(rates_in_words(entry.get("learning_rates", {}))):
                logger.debug("%s parameters train, at most at %s.", f"{entry['trainable_parameters']:,}", rates)

    def _log_held(self) -> None:
        held = [group.name for group in self.groups if group.held]
        left = layer_ranges(name for name in held if name not in self.schedule.trained(self.groups))
        # With adapters, the encoder is frozen as a matter of course.
        if left and not self.groups.adapters and PartialState().is_main_process:
            logger.info(
                "%s %s frozen before the training and stay%s so: only a stage that names them trains them.",
                " and ".join(left),
                "was" if len(left) == 1 else "were",
                "s" if len(left) == 1 else "",
            )

    def _warn_of_risks(self) -> None:
        for stage in self.schedule.stages:
            heads = self.schedule.at_risk(stage.trained(self.groups), self.groups)
            if heads and PartialState().is_main_process:
                logger.warning(
                    "Stage %r freezes %s while the encoder below trains: the inputs of a head that cannot follow will "
                    "drift. Watch its metric, or protect it with `protect`.",
                    stage.name,
                    " and ".join(heads),
                )


def _format_change(entry: JsonObject, change: Transition, num_groups: int) -> str:
    """Return a change as a sentence.

    Args:
        entry: The change in the log of the trainer.
        change: The change.
        num_groups: Number of groups of the model.
    """
    trained = change.trained
    if entry["freeze_stage"] is None:
        return f"the freeze schedule ends: {entry['freeze_reason']}."
    names = layer_ranges(trained)
    what = f"only {' and '.join(names)} train{'s' if len(trained) == 1 else ''}" if names else "nothing trains"
    if len(trained) == num_groups:
        what = "everything trains"
    reason = "" if entry["freeze_reason"] == RUN_STARTS else f" ({entry['freeze_reason']})"
    return f"stage {entry['freeze_stage']!r} {'starts' if change.starts_stage else 'goes on'}{reason}: {what}."
