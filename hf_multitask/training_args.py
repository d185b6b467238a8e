"""Training arguments of the `MultiTaskTrainer`."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

HEAD_LEARNING_RATE_FACTOR = 10.0


@dataclass
class MultiTaskTrainingArguments(TrainingArguments):
    """``TrainingArguments`` with a learning rate for the heads and batches of like length.

    Args:
        head_learning_rate: Peak learning rate of the heads; 10 times ``learning_rate`` where None.

    Raises:
        ValueError: If an argument is set that the trainer does not support.
    """

    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the heads; 10 times learning_rate if not given."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Order of the training rows; batches of like length by default."}
    )
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up; a share of all steps if below 1."}
    )
    weight_decay: float = field(
        default=0.01, metadata={"help": "Decoupled weight decay of all weights but biases and norms."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Not needed: the collator takes the columns that the model knows."}
    )

    def __post_init__(self) -> None:
        """Refuse what would silently do something else."""
        super().__post_init__()
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor is not supported: it has no meaning over several tasks.")
        if self.batch_eval_metrics:
            raise ValueError("batch_eval_metrics is not supported: entity scores need all rows.")

    @property
    def peak_head_learning_rate(self) -> float:
        """Peak learning rate of the heads: what is given, or 10 times the encoder's."""
        if self.head_learning_rate is not None:
            return self.head_learning_rate
        return HEAD_LEARNING_RATE_FACTOR * self.learning_rate
