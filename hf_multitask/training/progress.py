"""Progress of a run on the terminal: one bar at a time, and one line per evaluation."""

import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

# Scores that a line shows; the other metrics are in the record of the run.
SHOWN_SCORES = ("_accuracy", "_f1", "_mse")
OTHER_SCORES = ("_macro_f1", "_micro_f1", "_strict_f1")


class RunProgressCallback(TrainerCallback):
    """Show one bar for training, and one for each evaluation after it.

    It takes the place of the ``ProgressCallback`` of transformers, which shows the bar of each evaluation inside the
    bar of training and prints each log as a mapping. While a bar is shown, log messages are printed above it. If
    standard error is not a terminal, there is no bar, only the lines.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._is_training = False
        self._exit_stack = ExitStack()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Open the bar of training."""
        self._is_training = True
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
        """Show the training loss next to the bar."""
        if self._bar is not None and logs is not None and "loss" in logs:
            self._bar.set_postfix(loss=f"{float(logs['loss']):.4f}")

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
        """Print the scores of an evaluation during training."""
        if not self._is_training:
            self._close()
        elif state.is_world_process_zero:
            tqdm.write(f"Epoch {state.epoch or 0:.4g}: {format_scores(metrics or {})}", file=sys.stderr)

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Close the bar of an evaluation."""
        self._close()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Close the bar of training."""
        self._is_training = False
        self._close()

    def _open(self, state: TrainerState, description: str, total: int | None, initial: int = 0) -> None:
        if state.is_world_process_zero:
            loggers = [logging.getLogger(name) for name in ("hf_multitask", "transformers")]
            self._exit_stack.enter_context(logging_redirect_tqdm(loggers))
            # disable=None: no bar without a terminal.
            self._bar = tqdm(
                desc=description, total=total, initial=initial, leave=False, dynamic_ncols=True, disable=None
            )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._exit_stack.close()


def format_scores(metrics: Mapping[str, float]) -> str:
    """Format the loss and the main scores of an evaluation.

    Args:
        metrics: Metrics by name, with the prefix ``eval_`` of the Trainer.

    Returns:
        The scores, such as ``"loss 0.8123, topic_accuracy 0.9067, entities_f1 0.9408"``.
    """
    scores = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    shown = [
        name for name in scores if name == "loss" or (name.endswith(SHOWN_SCORES) and not name.endswith(OTHER_SCORES))
    ]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in shown)
