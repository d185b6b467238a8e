"""Conversion between the choices on the page and the config of a run."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from ..freezing.presets import PRESETS
from ..models import TaskConfig
from ..models.layer_groups import ENCODER, HEAD
from ..models.messages import unknown_name_message
from ..runs.config import RunConfig
from ..runtime.dataclass_yaml import changed_fields, to_yaml
from ..runtime.plain_values import load_yaml
from ..training.settings import EFFORTS, STANDARD
from .workspace import Workspace

# Options of the schedule besides the presets.
AS_TICKED = "train everything except the ticked parts"
AS_IN_CONFIG = "as in the config"
SCHEDULES = [name for name in PRESETS if name not in ("none", "all", "encoder")]
TOP_LAYERS = ("top:1", "top:2", "top:3")
# Often enough that the curves visibly grow.
LOGGING_STEPS = 5
# Training arguments of the numbers on the page.
NUMBERS = {
    "epochs": "num_train_epochs",
    "learning_rate": "learning_rate",
    "head_learning_rate": "head_learning_rate",
    "batch_size": "per_device_train_batch_size",
}
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class RunChoices:
    """Choices on the page.

    Args:
        tasks: Tasks as YAML, see `tasks_as_yaml`.
        encoder: Hub name of the encoder, or a model of the workspace to continue from.
        schedule: `AS_TICKED`, `AS_IN_CONFIG` or the name of a preset.
        frozen: Groups that are frozen throughout the run.
        epochs: Length of the run. Chosen from the rows if None, like the rates.
        learning_rate: Peak learning rate of the encoder.
        head_learning_rate: Peak learning rate of the heads.
        effort: Training time that a better score is worth, one of `EFFORTS`.
        batch_size: Rows per step. Chosen from the rows if None.
        head: Kind of the heads of token tasks; chosen by the effort if None.
        calibrate: Whether scores are calibrated on validation.
        abstain: Method by which tasks with one label per text answer that no label fits; they do not if None.
    """

    tasks: str
    encoder: str
    schedule: str
    frozen: Sequence[str]
    epochs: float | None
    learning_rate: float | None
    head_learning_rate: float | None
    effort: str = STANDARD
    batch_size: float | None = None
    head: str | None = None
    calibrate: bool = True
    abstain: str | None = None


def default_choices(base: RunConfig) -> RunChoices:
    """Return the choices that stand for a config."""
    is_plain = base.freeze == "none"
    return RunChoices(
        tasks=tasks_as_yaml(base.tasks),
        encoder=base.encoder,
        schedule=AS_TICKED if is_plain else AS_IN_CONFIG,
        frozen=(),
        epochs=base.training.get("num_train_epochs"),
        learning_rate=base.training.get("learning_rate"),
        head_learning_rate=base.training.get("head_learning_rate"),
        effort=base.effort,
        batch_size=base.training.get("per_device_train_batch_size"),
        calibrate=base.calibrate,
    )


def schedule_names(base: RunConfig) -> list[str]:
    """Return the schedules that the page offers."""
    own = [] if base.freeze == "none" else [AS_IN_CONFIG]
    return [AS_TICKED, *own, *SCHEDULES, *TOP_LAYERS]


def freezable_groups(tasks: Sequence[TaskConfig]) -> list[tuple[str, str]]:
    """Return a box for each group that can be frozen: its label and the name of the group."""
    heads = [(f"freeze head {task.name}", f"{HEAD}{task.name}") for task in tasks]
    return [("freeze encoder", ENCODER), *heads]


def build_config(base: RunConfig, choices: RunChoices, workspace: Workspace, output_dir: str | Path) -> RunConfig:
    """Build the config of a run.

    Args:
        base: Config of the data.
        choices: Choices on the page.
        workspace: Workspace whose models may be used as the encoder.
        output_dir: Folder of the model.

    Returns:
        The config.

    Raises:
        ValueError: If a choice is not allowed.
    """
    tasks = parse_tasks(choices.tasks)
    names = [group for _, group in freezable_groups(tasks)]
    freeze = base.freeze if choices.schedule == AS_IN_CONFIG else choices.schedule
    if choices.schedule == AS_TICKED:
        # Ignore the box of a task that was renamed after it was ticked.
        freeze = [name for name in choices.frozen if name in names] or "none"
    training = {"logging_steps": LOGGING_STEPS, **base.training}
    for field, key in NUMBERS.items():
        value = getattr(choices, field)
        if value is None:
            training.pop(key, None)
        else:
            training[key] = _checked_number(field, value)
    if choices.effort not in EFFORTS:
        raise ValueError(unknown_name_message("effort", choices.effort, EFFORTS))
    return replace(
        base,
        encoder=_allowed_encoder(base, choices.encoder, workspace),
        tasks=[_with_abstain(_with_head(task, choices.head), choices.abstain) for task in tasks],
        freeze=freeze,
        effort=choices.effort,
        calibrate=choices.calibrate,
        training={**training, "disable_tqdm": True},
        output_dir=str(output_dir),
    )


def _checked_number(field: str, value: float) -> float | int:
    name = field.replace("_", " ")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a number above 0, found {value!r}.")
    if field != "batch_size":
        return value if value != int(value) else int(value)
    if value != int(value):
        raise ValueError(f"{name}: expected a whole number of rows, found {value!r}.")
    return int(value)


def _with_head(task: TaskConfig, head: str | None) -> TaskConfig:
    """Return a token task with a kind of head, unless it has one of its own."""
    return replace(task, head=head) if head and task.is_token_task and task.head is None else task


def _with_abstain(task: TaskConfig, method: str | None) -> TaskConfig:
    """Return a task with one label per text that abstains by a method, unless it does so in a way of its own."""
    return replace(task, abstain={"method": method}) if method and task.may_abstain and not task.abstain else task


def parse_tasks(text: str) -> list[TaskConfig]:
    """Parse tasks from the YAML of `tasks_as_yaml`.

    Args:
        text: The YAML.

    Raises:
        ValueError: If the text is not a list of tasks.
    """
    try:
        values = load_yaml(text)
    except ValueError as error:
        raise ValueError(f"tasks: {error}") from error
    if not isinstance(values, list) or not values or not all(isinstance(task, dict) for task in values):
        raise ValueError("tasks: expected one line per task, such as - {name: topic, type: sequence_classification}.")
    return [TaskConfig.from_dict(task) for task in values]


def tasks_as_yaml(tasks: Sequence[TaskConfig]) -> str:
    """Return tasks as YAML, one line per task, without default values."""
    values = [changed_fields(task) for task in tasks]
    return yaml.safe_dump(values, default_flow_style=None, sort_keys=False, allow_unicode=True, width=10_000).strip()


def config_as_yaml(config: RunConfig) -> str:
    """Return a config as the text of a YAML file. Its paths must be absolute."""
    return to_yaml(asdict(config))


def _allowed_encoder(base: RunConfig, name: str, workspace: Workspace) -> str:
    """Return the name or folder of an encoder, and refuse folders other than the config's and the workspace's."""
    name = (name or "").strip()
    if name == base.encoder:
        return name
    models = workspace.models()
    if name in models:
        return str(models[name])
    if not _HUB_NAME.fullmatch(name) or Path(name).exists():
        raise ValueError(
            f"encoder: expected a hub name such as sentence-transformers/all-MiniLM-L6-v2, or a model of "
            f"{str(workspace.root)!r} such as {next(iter(models), 'app/run-1')!r}, found {name!r}."
        )
    return name
