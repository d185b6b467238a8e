"""Progress of a training for people who watch it: one bar at a time, and one line per evaluation."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack

from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils import is_in_notebook

from ..runtime.console_log import shown_messages
from ..runtime.quiet import no_bars
from ..runtime.training_history import EVAL_PREFIX

logger = logging.getLogger(__name__)

LOSS = "loss"
# What chooses between evaluations if the training arguments don't say.
DECIDING_METRICS = ("joint_accuracy", "mean_score", LOSS)

_REPLACED = ("ProgressCallback", "NotebookProgressCallback", "PrinterCallback")


class RunProgressCallback(TrainerCallback):
    """Show one bar for training, and one for each evaluation after it; log one line per evaluation.

    It takes the place of the callbacks of transformers that show the bar of each evaluation inside the bar of training
    and print each log as a mapping. While a bar is shown, log messages are printed above it. Without a terminal or a
    notebook there is no bar, only the lines.

    Args:
        shows_bar: Whether to show bars.
    """

    def __init__(self, shows_bar: bool = True) -> None:
        self.shows_bar = shows_bar
        self._bar: tqdm | None = None
        self._is_training = False
        self._exit_stack = ExitStack()
        self._earlier: dict[str, float] = {}
        self._best: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Open the bar of training."""
        self._is_training = True
        self._earlier, self._best = {}, None
        if state.is_world_process_zero:
            self._exit_stack.enter_context(shown_messages())
            # Checkpoints are written while the bar is shown.
            self._exit_stack.enter_context(no_bars(of_datasets=False))
        self._open(state, "Training", state.max_steps, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Move the bar of training."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Show the training loss next to the bar, and log everything in detail."""
        if not state.is_world_process_zero or logs is None:
            return
        if self._bar is not None and LOSS in logs:
            self._bar.set_postfix(loss=f"{float(logs[LOSS]):.4f}")
        logger.debug("Step %d: %s", state.global_step, ", ".join(f"{name} {value}" for name, value in logs.items()))

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: DataLoader | None = None,
        **kwargs: object,
    ) -> None:
        """Move the bar of an evaluation after training."""
        if self._is_training:
            return
        if self._bar is None:
            self._open(state, "Evaluating", len(eval_dataloader) if has_length(eval_dataloader) else None)
        if self._bar is not None:
            self._bar.update(1)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Log the line of an evaluation during training."""
        if not self._is_training:
            self._close()
            return
        scores = {name.removeprefix(EVAL_PREFIX): value for name, value in (metrics or {}).items()}
        metric = deciding_metric(scores, args.metric_for_best_model)
        if metric is None:
            return
        greater = not metric.endswith(LOSS) if args.greater_is_better is None else args.greater_is_better
        is_best = self._best is None or (scores[metric] > self._best if greater else scores[metric] < self._best)
        if state.is_world_process_zero:
            line = format_evaluation(scores, metric, self._earlier, is_best and self._best is not None)
            logger.info("Step %d, epoch %.4g: %s", state.global_step, state.epoch or 0, line)
        if is_best:
            self._best = scores[metric]
        self._earlier |= scores

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Close the bar of an evaluation."""
        if not self._is_training:
            self._close()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Close the bar of training."""
        self.close()

    def close(self) -> None:
        """End a training, also one that an error has ended."""
        self._is_training = False
        self._close()

    def _open(self, state: TrainerState, description: str, total: int | None, initial: int = 0) -> None:
        if self.shows_bar and state.is_world_process_zero:
            self._exit_stack.enter_context(logging_redirect_tqdm([logging.getLogger("transformers")]))
            # disable=None: no bar without a terminal. A notebook's output is none.
            disable = False if is_in_notebook() else None
            self._bar = tqdm(
                desc=description, total=total, initial=initial, leave=False, dynamic_ncols=True, disable=disable
            )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._exit_stack.close()


def replace_progress(callbacks: list[TrainerCallback], shows_bar: bool) -> RunProgressCallback:
    """Put a `RunProgressCallback` in the place of the callbacks of transformers that show progress.

    Args:
        callbacks: Callbacks of a trainer, changed in place.
        shows_bar: Whether to show bars.

    Returns:
        The new callback.
    """
    progress = RunProgressCallback(shows_bar)
    # A notebook's callback is not a subclass of the terminal's.
    theirs = [callback for callback in callbacks if type(callback).__name__ in _REPLACED]
    callbacks[:] = [progress, *(callback for callback in callbacks if callback not in theirs)]
    return progress


def deciding_metric(scores: Mapping[str, float], metric_for_best_model: str | None) -> str | None:
    """Return the name of the metric that chooses between evaluations, None if they have none.

    Args:
        scores: Metrics of an evaluation, without the prefix ``eval_``.
        metric_for_best_model: Of the training arguments.
    """
    names = [(metric_for_best_model or "").removeprefix(EVAL_PREFIX), *DECIDING_METRICS]
    # Several validation sets have the name of the set in front.
    return next(
        (found for name in names if name for found in scores if found == name or found.endswith(f"_{name}")), None
    )


def format_evaluation(scores: Mapping[str, float], metric: str, earlier: Mapping[str, float], is_best: bool) -> str:
    """Format the losses by task and the metric that decides, with what has changed.

    Args:
        scores: Metrics of the evaluation, without the prefix ``eval_``.
        metric: Name of the metric that decides.
        earlier: Metrics of the evaluation before.
        is_best: Whether the evaluation is better than all before.

    Returns:
        The line, such as ``"loss topic 0.8123 (-0.0210), entities 0.1031 (-0.0455); joint_accuracy 0.9067 (+0.0131,
        best so far)"``.
    """
    changes = {name: f"{scores[name] - earlier[name]:+.4f}" for name in scores if name in earlier}
    losses = [name for name in scores if name.endswith(f"_{LOSS}") and name != metric]
    shown = [
        f"{name.removesuffix(f'_{LOSS}')} {scores[name]:.4f}" + (f" ({changes[name]})" if name in changes else "")
        for name in losses
    ]
    notes = [*([changes[metric]] if metric in changes else []), *(["best so far"] if is_best else [])]
    decides = f"{metric} {scores[metric]:.4f}" + (f" ({', '.join(notes)})" if notes else "")
    return "; ".join([*([f"loss {', '.join(shown)}"] if shown else []), decides])
