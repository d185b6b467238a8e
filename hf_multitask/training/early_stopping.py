"""An early stop that a resumed run makes at the same step as an uninterrupted one."""

from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments


class ResumableEarlyStopping(EarlyStoppingCallback):
    """``EarlyStoppingCallback`` that continues to count evaluations after a resume, and begins anew with a new run.

    The Trainer writes the count to every checkpoint, but gives it back only to callbacks that it makes again with
    ``restore_callback_states_from_checkpoint``.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the count; take no step if the run that is resumed has stopped early."""
        super().on_train_begin(args, state, control, **kwargs)
        # TrainerState makes a mapping of the callbacks that it is annotated with.
        states: dict[str, Any] = state.stateful_callbacks  # type: ignore[assignment]
        # A checkpoint of a run without an early stop has no count, and the Trainer writes only names that it finds.
        recorded = states.setdefault(type(self).__name__, self.state())["attributes"]
        name = "early_stopping_patience_counter"
        self.early_stopping_patience_counter = recorded[name] if state.global_step else 0
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
