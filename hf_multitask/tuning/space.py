"""Search spaces: the default one, and spaces given in YAML."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..models.tasks import HEAD_KINDS, MULTI_LABEL, REGRESSION, TaskConfig
from ..runs.config import RunConfig
from ..runtime.dataclass_yaml import as_number
from ..runtime.plain_values import read_yaml_mapping
from .parameters import HEAD_RATE_FACTOR, Parameter, Value, check_key, value_of

BATCH_SIZES = (4, 8, 16, 32)
# Around the value of the config. Longer runs would make the search expensive; try a longer winner by hand.
RATES_AROUND, EPOCHS_AROUND = (1 / 4, 3.0), (0.5, 1.5)
HEAD_RATE_FACTORS = (1.0, 20.0)
DECAYS = (0.7, 1.0)
SMOOTHINGS = (0.0, 0.2)
WORD_DROPOUTS = (0.0, 0.1)
RANGE_KEYS = ("low", "high", "log")

Space = Mapping[str, object]
"""Ranges ``{low, high, log}`` or lists of choices by dotted name, as in YAML."""


def read_space(path: str | Path) -> Space:
    """Read a search space from a YAML file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not a mapping in YAML.
    """
    return read_yaml_mapping(Path(path), "file of a search space")


def build_parameters(config: RunConfig, space: Space | None) -> list[Parameter]:
    """Return the parameters of a search. The values of the config are always among those that are tried.

    Args:
        config: Config with all settings.
        space: Search space; the default one if None.

    Raises:
        ValueError: If a key cannot be searched for, or is not a range or a list.
    """
    if space is not None and not space:
        raise ValueError("space is empty; expected at least one key, such as training.learning_rate.")
    parameters = default_parameters(config) if space is None else [_parse(config, *item) for item in space.items()]
    if {HEAD_RATE_FACTOR, "training.head_learning_rate"} <= {parameter.key for parameter in parameters}:
        raise ValueError(f"space: {HEAD_RATE_FACTOR} and training.head_learning_rate exclude each other.")
    arguments = config.training_arguments()
    return [parameter.with_base(value_of(config, parameter.key, arguments)) for parameter in parameters]


def default_parameters(config: RunConfig) -> list[Parameter]:
    """Return the default search space, around the settings of a config.

    Args:
        config: Config with all settings.
    """
    arguments = config.training_arguments()
    rate, epochs = arguments.learning_rate, arguments.num_train_epochs
    parameters = [
        Parameter("training.learning_rate", low=RATES_AROUND[0] * rate, high=RATES_AROUND[1] * rate, log=True),
        Parameter(HEAD_RATE_FACTOR, low=HEAD_RATE_FACTORS[0], high=HEAD_RATE_FACTORS[1], log=True),
        Parameter("training.layer_lr_decay", low=DECAYS[0], high=DECAYS[1]),
    ]
    if arguments.max_tokens_per_batch is None:
        parameters.append(Parameter("training.per_device_train_batch_size", BATCH_SIZES))
    if arguments.max_steps <= 0:
        low, high = (max(round(factor * epochs), 1) for factor in EPOCHS_AROUND)
        parameters.append(Parameter("training.num_train_epochs", low=low, high=high))
    for task in config.tasks:
        parameters += _of_task(task)
    if any(task.is_token_task for task in config.tasks):
        parameters.append(Parameter("data.label_subwords", ("first", "all")))
        parameters.append(Parameter("training.word_dropout", WORD_DROPOUTS))
    if config.freeze == "none":
        parameters.append(Parameter("freeze", ("none", "heads-then-all")))
    return parameters


def _of_task(task: TaskConfig) -> Iterable[Parameter]:
    prefix = f"tasks.{task.name}"
    if task.problem_type not in (REGRESSION, MULTI_LABEL) and not task.crf:
        yield Parameter(f"{prefix}.label_smoothing", low=SMOOTHINGS[0], high=SMOOTHINGS[1])
    if task.is_token_task:
        yield Parameter(f"{prefix}.head", HEAD_KINDS)
        yield Parameter(f"{prefix}.mix_layers", (False, True))


def _parse(config: RunConfig, key: str, given: object) -> Parameter:
    check_key(config, key)
    if isinstance(given, list) and given:
        choices: tuple[Value, ...] = tuple(as_number(item) if key.startswith("training.") else item for item in given)
        return Parameter(key, choices)
    expected = f"space: {key}: expected a list of choices, or a range such as {{low: 1e-5, high: 1e-3, log: true}}"
    if not isinstance(given, Mapping) or not {"low", "high"} <= given.keys() <= set(RANGE_KEYS):
        raise ValueError(f"{expected}, found {given!r:.80}.")
    low, high, log = as_number(given["low"]), as_number(given["high"]), given.get("log", False)
    if not _is_number(low) or not _is_number(high) or not isinstance(log, bool):
        raise ValueError(f"{expected}, found {given!r:.80}.")
    if not low < high or (log and low <= 0):  # type: ignore[operator]  # both are numbers
        raise ValueError(f"space: {key}: low must be below high, and above 0 if log, found {given!r:.80}.")
    return Parameter(key, low=low, high=high, log=log)  # type: ignore[arg-type]  # both are numbers


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
