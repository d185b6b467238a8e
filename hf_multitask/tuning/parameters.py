"""Parameters of a search: keys of a run's config, their ranges and choices, and their values in a config."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ..data import DataConfig, Sampling
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from ..runs.config import RunConfig
from ..training.arguments import MultiTaskTrainingArguments

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Rate of the heads divided by the rate of the encoder, in place of `training.head_learning_rate`.
HEAD_RATE_FACTOR = "head_rate_factor"
TOP_LEVEL = ("encoder", "freeze", "pooling")
TASK_FIELDS = ("head", "mix_layers", "crf", "label_smoothing", "loss_weight")
DATA_FIELDS = ("label_subwords", "max_length", "overlap", "truncate")
# The search decides on these itself, or they change nothing that is searched for.
RUN_FIELDS = ("output_dir", "metric_for_best_model", "greater_is_better", "load_best_model_at_end", "seed")
DIGITS = 3

Value = object
"""A value of a config: a number, a name, a truth value, or for ``freeze`` a list or a mapping."""


@dataclass(frozen=True)
class Parameter:
    """A key of a config and the values that trials give it.

    Args:
        key: Dotted name of the key, such as ``"training.learning_rate"`` or ``"tasks.slots.head"``.
        choices: Values to choose from; None if the parameter is a number in a range.
        low: Lowest number.
        high: Highest number.
        log: Whether the range is logarithmic.
        base: Value in the config that the search starts from.
    """

    key: str
    choices: tuple[Value, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    base: Value = None

    @property
    def is_integer(self) -> bool:
        """Whether the numbers of the range are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def with_base(self, base: Value) -> "Parameter":
        """Return the parameter with its value in a config, which is one of its values from now on.

        Raises:
            ValueError: If the config has no number for a range.
        """
        if self.choices is not None:
            return replace(self, base=base, choices=self.choices if self._has(base) else (base, *self.choices))
        if isinstance(base, bool) or not isinstance(base, (int, float)):
            raise ValueError(
                f"space: {self.key} is {base!r} in the config, which is not in a range; give a list of choices, such "
                f"as [{json.dumps(base)}, {self.low:g}, {self.high:g}]."
            )
        # Half an epoch makes a range of whole epochs one of fractions.
        number = int if self.is_integer and float(base).is_integer() else float
        low, high = min(self.low, base), max(self.high, base)
        return replace(self, base=number(base), low=number(low), high=number(high))

    def nearest(self, value: Value) -> Value:
        """Return a value of a config if the parameter has it, else the nearest end of the range, or the base."""
        if self.choices is not None:
            return value if self._has(value) else self.base
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return self.base
        return type(self.low)(min(max(value, self.low), self.high))

    def distribution(self) -> "BaseDistribution":
        """Return the distribution that Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution([to_optuna(choice) for choice in self.choices])
        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(float(self.low), float(self.high), log=self.log)

    def decode(self, drawn: Value) -> Value:
        """Return the value of a config for what Optuna has drawn."""
        if self.choices is not None:
            return next(
                choice for choice in self.choices if to_optuna(choice) == drawn and type_matches(choice, drawn)
            )
        if drawn == self.base or not isinstance(drawn, float):
            return drawn
        return _round(drawn)

    def _has(self, value: Value) -> bool:
        """Return whether a value is one of the choices."""
        return any(choice == value and type_matches(choice, value) for choice in self.choices or ())


def to_optuna(choice: Value) -> str | float | bool | None:
    """Return a choice as Optuna stores it: names and numbers as they are, lists and mappings as JSON."""
    if choice is None or isinstance(choice, (str, int, float, bool)):
        return choice
    return json.dumps(choice)


def type_matches(choice: Value, drawn: Value) -> bool:
    """Return whether a choice and a drawn value are both truth values or both not: 1 equals True in Python."""
    return isinstance(choice, bool) == isinstance(drawn, bool)


def check_key(config: RunConfig, key: str) -> None:
    """Check that a key can be searched for.

    Args:
        config: Config that the search starts from.
        key: Dotted name.

    Raises:
        ValueError: If it cannot. The message names the closest key.
    """
    allowed = allowed_keys(config)
    if key not in allowed:
        raise ValueError(unknown_name_message("key in the search space", key, allowed))


def allowed_keys(config: RunConfig) -> list[str]:
    """Return the keys that can be searched for, those that most searches use first."""
    training = [item.name for item in fields(MultiTaskTrainingArguments) if item.init and item.name not in RUN_FIELDS]
    first = ["learning_rate", "per_device_train_batch_size", "num_train_epochs", "layer_lr_decay"]
    ordered = [*first, *(name for name in training if name not in first)]
    return [
        *(f"training.{name}" for name in ordered),
        HEAD_RATE_FACTOR,
        *(f"tasks.{task.name}.{name}" for task in config.tasks for name in TASK_FIELDS),
        *(f"data.{name}" for name in DATA_FIELDS),
        *TOP_LEVEL,
        *(f"sampling.{item.name}" for item in fields(Sampling)),
    ]


def value_of(config: RunConfig, key: str, arguments: MultiTaskTrainingArguments) -> Value:
    """Return the value that a key has in a config.

    Args:
        config: The config.
        key: Dotted name.
        arguments: Training arguments of the config.
    """
    room, _, name = key.partition(".")
    if key == HEAD_RATE_FACTOR:
        return arguments.peak_head_learning_rate / arguments.learning_rate
    if room == "training":
        value = getattr(arguments, name)
        return 1.0 if name == "layer_lr_decay" and value is None else _plain(value)
    if room == "tasks":
        task, _, field = name.partition(".")
        return next(getattr(item, field) for item in config.tasks if item.name == task)
    owner = {"data": config.data_configs[0], "sampling": config.sampling}.get(room, config)
    return getattr(owner, name or key)


def apply_values(config: RunConfig, values: Mapping[str, Value]) -> RunConfig:
    """Return a config with the values of a trial.

    A config that evaluates its last epochs only (``eval_delay``) evaluates as many of other numbers of epochs.

    Args:
        config: The config.
        values: Values by key.

    Raises:
        ValueError: If a value is not allowed.
    """
    training: JsonObject = dict(config.training)
    tasks: dict[str, JsonObject] = {task.name: {} for task in config.tasks}
    data: JsonObject = {}
    sampling: JsonObject = {}
    top: JsonObject = {}
    for key, value in values.items():
        room, _, name = key.partition(".")
        if room == "training":
            training[name] = value
        elif room == "tasks":
            task, _, field = name.partition(".")
            tasks[task][field] = value
        elif room in ("data", "sampling"):
            (data if room == "data" else sampling)[name] = value
        elif key != HEAD_RATE_FACTOR:
            top[key] = value
    factor = values.get(HEAD_RATE_FACTOR)
    if isinstance(factor, (int, float)):
        training["head_learning_rate"] = _round(factor * float(training["learning_rate"]))
    delay, epochs = config.training.get("eval_delay"), config.training.get("num_train_epochs")
    if delay and epochs and training.get("eval_strategy") == "epoch" and "training.eval_delay" not in values:
        training["eval_delay"] = max(float(delay) + float(training["num_train_epochs"]) - float(epochs), 0)
    datasets: list[DataConfig] = [replace(item, **data) for item in config.data_configs]
    return replace(
        config,
        **top,
        training=training,
        tasks=[replace(task, **tasks[task.name]) for task in config.tasks],
        data=datasets[0] if isinstance(config.data, DataConfig) else datasets,
        sampling=replace(config.sampling, **sampling),
    )


def _round(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _plain(value: Value) -> Value:
    """Return the value of an enumeration of transformers as its name."""
    return getattr(value, "value", value)
