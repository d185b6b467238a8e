"""Settings of a run that its config leaves out, chosen from what is known before training.

Each rule is a function that returns settings with their reasons. docs/RESULTS.md has the measurements behind them. No
rule knows a dataset by name, and a setting that is given is never replaced.
"""

import math
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedConfig

from ..data import PreparedData, TrainingStream
from ..data.labels.seen_types import SeenTypes, with_seen_types
from ..models.messages import unknown_name_message
from ..models.table_repr import ReprTable, ShownAsTable
from ..models.tasks import CHOSEN_FIELDS, LSTM_HEAD, MULTI_LABEL, REGRESSION, TaskConfig
from ..models.type_aliases import JsonObject
from .metrics import metric_of

QUICK, STANDARD, THOROUGH = "quick", "standard", "thorough"
EFFORTS = (QUICK, STANDARD, THOROUGH)

# Rates of encoder and heads that were measured with 6 layers of width 384, in short runs and in longer ones.
MEASURED_WIDTH, MEASURED_DEPTH = 384, 6
SHORT_RUN_STEPS = 1000
SHORT_RUN_RATES, RATES = (4e-4, 1.5e-3), (2e-4, 1.5e-3)
MAX_RATE, MAX_HEAD_RATE = 6e-4, 2e-3
# Factor of the heads' rate in a run of sequence tasks one of which has this many labels.
MANY_LABELS, MANY_LABELS_FACTOR = 50, 10 / 3
LAYER_LR_DECAY = 0.85
# Adapters start from zero. Hu et al. (2022) train theirs at about ten times the rates of the weights themselves.
ADAPTER_RATE_FACTOR, MAX_ADAPTER_RATE = 10, 2e-3
WORD_DROPOUT = 0.1

SMOOTHING = 0.1
# Up to this many rows, each row is read in more epochs, and evaluation takes a large part of the time.
FEW_ROWS = 1000
MANY_ROWS = 50_000
ROWS_READ, MIN_EPOCHS, MAX_EPOCHS, EPOCHS_OF_MANY_ROWS = 8000, 6, 30, 3
# Epochs that are evaluated in a run on few rows.
LAST_EVALUATIONS = 3
TEXT_WIDTH = 100
# Width of a reason beside its key and value, below which it is in lines of its own.
LEAST_WIDTH = 30

# Settings that are not chosen if another one is given, because that one takes their place or has its own default.
IMPLIED = {
    "training.max_steps": ("training.num_train_epochs",),
    "training.max_tokens_per_batch": ("training.per_device_train_batch_size",),
    "training.learning_rate": ("training.head_learning_rate",),
    "training.warmup_ratio": ("training.warmup_steps",),
    "training.metric_for_best_model": ("training.greater_is_better",),
}
# Settings that depend on each other: if one is given, the defaults of a run hold for the others.
EVALUATION_KEYS = {
    f"training.{name}"
    for name in ("eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps", "load_best_model_at_end")
}


@dataclass(frozen=True)
class Setting:
    """A chosen setting.

    Args:
        key: Key in a run's config, such as ``"training.num_train_epochs"`` or ``"tasks.ner.head"``.
        value: Value.
        reason: Reason, as a phrase.
    """

    key: str
    value: object
    reason: str


@dataclass(frozen=True)
class RunFacts:
    """Facts known before training.

    Args:
        tasks: The tasks, with their labels.
        rows: Number of training rows; None if they are streamed.
        validation_rows: Number of validation rows; 0 without validation.
        fully_labeled: Whether validation rows have a label for every task.
        width: Width of the encoder's hidden states.
        depth: Number of the encoder's layers.
        batches_per_step: Number of batches in an optimizer step: processes times accumulation steps.
        evaluates_each_epoch: Whether each epoch has to be evaluated, as for a schedule that watches a metric.
        trains_adapters: Whether adapters train instead of the encoder's own weights.
        shares_rows: Whether training rows have a label for every task; if not, each task has rows of its own.
        freezes_layers: Whether layers are frozen. Their states are cached for heads that read the last layer only.
        seen_types: Entity types of the training rows by label, see `PreparedData`.
    """

    tasks: Sequence[TaskConfig]
    rows: int | None
    validation_rows: int
    fully_labeled: bool
    width: int
    depth: int
    batches_per_step: int = 1
    evaluates_each_epoch: bool = False
    trains_adapters: bool = False
    shares_rows: bool = True
    freezes_layers: bool = False
    seen_types: Mapping[str, Mapping[str, SeenTypes]] = field(default_factory=dict)

    @property
    def has_token_tasks(self) -> bool:
        """Whether there is a token task."""
        return any(task.is_token_task for task in self.tasks)

    @property
    def has_sequence_tasks(self) -> bool:
        """Whether there is a sequence task."""
        return not all(task.is_token_task for task in self.tasks)

    @classmethod
    def of(cls, data: PreparedData, encoder_config: PreTrainedConfig, batches_per_step: int = 1) -> "RunFacts":
        """Collect the facts of prepared data and of an encoder.

        Args:
            data: The data.
            encoder_config: Config of the encoder.
            batches_per_step: Number of batches in an optimizer step: processes times accumulation steps.
        """
        validation = data.get("validation")
        report, train_report = data.reports.get("validation"), data.reports.get("train")
        return cls(
            tasks=data.tasks,
            rows=num_training_rows(data),
            validation_rows=0 if validation is None or isinstance(validation, TrainingStream) else len(validation),
            fully_labeled=report is not None and report.fully_labelled_rows > 0,
            width=encoder_config.hidden_size,
            depth=encoder_config.num_hidden_layers,
            batches_per_step=batches_per_step,
            shares_rows=train_report is None or train_report.fully_labelled_rows > 0,
            seen_types=data.seen_types,
        )


def num_training_rows(data: PreparedData) -> int | None:
    """Return the number of training rows; None if they are streamed."""
    train = data.get("train")
    return None if train is None or isinstance(train, TrainingStream) else len(train)


@dataclass(frozen=True, repr=False)
class Settings(ShownAsTable):
    """Settings that were chosen for a run. Printed as a table with their reasons.

    Args:
        chosen: The settings.
        facts: The facts that they were chosen from.
        effort: Effort of the run.
    """

    chosen: Sequence[Setting]
    facts: RunFacts
    effort: str

    @property
    def training(self) -> JsonObject:
        """Chosen fields of `MultiTaskTrainingArguments`."""
        return {
            item.key.removeprefix("training."): item.value for item in self.chosen if item.key.startswith("training.")
        }

    @property
    def tasks(self) -> list[TaskConfig]:
        """The tasks with the chosen heads and losses."""
        chosen = [replace(task, **self._of_task(task.name)).with_defaults() for task in self.facts.tasks]
        return [with_seen_types(task, self.facts.seen_types.get(task.name, {})) for task in chosen]

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the settings."""
        rows = [[item.key, _show(item.value), item.reason] for item in self.chosen]
        return [ReprTable(f"Settings chosen, effort {self.effort}", ("setting", "value", "reason"), rows)]

    def _of_task(self, name: str) -> JsonObject:
        prefix = f"tasks.{name}."
        return {item.key.removeprefix(prefix): item.value for item in self.chosen if item.key.startswith(prefix)}

    def __str__(self) -> str:
        """Return the settings as a table."""
        rows = "streamed rows" if self.facts.rows is None else f"{self.facts.rows:,} training rows"
        if not self.chosen:
            return f"Settings for {rows}: all given."
        keys = max(len(item.key) for item in self.chosen)
        values = max(len(_show(item.value)) for item in self.chosen)
        indent = keys + values + 6
        width = min(TEXT_WIDTH, shutil.get_terminal_size((TEXT_WIDTH, 0)).columns)
        title = f"Settings chosen for {rows}, effort {self.effort}; give a key to set it yourself:"
        lines = textwrap.wrap(title, max(width, len("Settings")))
        has_room = width - indent >= LEAST_WIDTH
        for item in self.chosen:
            start = f"  {item.key:<{keys}}  {_show(item.value):<{values}}  "
            if not has_room:
                lines.append(f"  {item.key}: {_show(item.value)}")
                start = " " * 6
            later = " " * (indent if has_room else 6)
            lines += textwrap.wrap(
                item.reason, width, initial_indent=start, subsequent_indent=later, break_long_words=False
            )
        return "\n".join(lines)


def choose_settings(
    data: PreparedData | RunFacts,
    encoder_config: PreTrainedConfig | None = None,
    effort: str = STANDARD,
    given: Collection[str] = (),
) -> Settings:
    """Choose the settings of a run from its data and its encoder.

    Args:
        data: The prepared data, or facts about them.
        encoder_config: Config of the encoder, such as ``model.config.encoder_config``. Not needed with facts.
        effort: ``"quick"``, ``"standard"`` or ``"thorough"``: how much training time a better score is worth.
        given: Keys of settings that are given, such as ``"training.learning_rate"``. Fields of tasks that are not
            None are given, too.

    Returns:
        The settings that are not given, with their reasons.

    Raises:
        ValueError: If the effort is unknown, or prepared data come without ``encoder_config``.
    """
    if effort not in EFFORTS:
        raise ValueError(unknown_name_message("effort", effort, EFFORTS))
    if isinstance(data, PreparedData):
        if encoder_config is None:
            raise ValueError("encoder_config is missing; expected the config of the encoder, with prepared data.")
        data = RunFacts.of(data, encoder_config)
    left_alone = {*given, *_given_of_tasks(data.tasks)}
    if left_alone & EVALUATION_KEYS:
        left_alone |= EVALUATION_KEYS
    left_alone |= {key for cause, keys in IMPLIED.items() if cause in left_alone for key in keys}
    if left_alone & {"training.num_train_epochs", "training.max_steps"}:
        # Which epochs are the last ones is known for the chosen length only.
        data = replace(data, evaluates_each_epoch=True)
    chosen = [setting for rule in RULES for setting in rule(data, effort) if setting.key not in left_alone]
    return Settings(chosen, data, effort)


def choose_label_subwords(tasks: Sequence[TaskConfig], rows: int | None) -> Setting | None:
    """Choose ``data.label_subwords``, which rows are tokenized with.

    Args:
        tasks: The tasks.
        rows: Number of training rows; None if they are streamed.

    Returns:
        The setting; None without token tasks.
    """
    if not any(task.is_token_task for task in tasks):
        return None
    if rows is not None and rows < FEW_ROWS:
        return Setting("data.label_subwords", "all", "with few rows, every subword of a word teaches")
    return Setting("data.label_subwords", "first", "with many rows, the first subword of a word teaches enough")


def learning_rates(width: int, depth: int, steps: int | None = None) -> tuple[float, float]:
    """Return the peak learning rates of the encoder and of the heads.

    They were measured with width 384 and 6 layers. For other sizes, the encoder's rate falls with the square of the
    width and the square root of the depth, which meets the range that Devlin et al. (2019) recommend for BERT-base
    (2e-5 to 5e-5) and the lower rates of larger encoders; that of the heads falls half as fast.

    Args:
        width: Width of the hidden states.
        depth: Number of layers.
        steps: Optimizer steps of the run: a short run needs higher rates. None if unknown.
    """
    encoder, heads = SHORT_RUN_RATES if steps is not None and steps < SHORT_RUN_STEPS else RATES
    factor = (MEASURED_WIDTH / width) ** 2 * (MEASURED_DEPTH / depth) ** 0.5
    return _round(min(encoder * factor, MAX_RATE)), _round(min(heads * factor**0.5, MAX_HEAD_RATE))


def adapter_learning_rate(rate: float) -> float:
    """Return the peak learning rate of adapters.

    Args:
        rate: Peak learning rate of the encoder's own weights.
    """
    return _round(min(ADAPTER_RATE_FACTOR * rate, max(MAX_ADAPTER_RATE, rate)))


def _length(facts: RunFacts, effort: str) -> Iterator[Setting]:
    if facts.rows is None:
        yield Setting("training.per_device_train_batch_size", 32, "rows are streamed, so their number is unknown")
        return
    size = batch_size(facts.rows, effort)
    of_each = "" if facts.batches_per_step == 1 else f": {size} in the {facts.batches_per_step} batches of a step"
    yield Setting(
        "training.per_device_train_batch_size",
        max(size // facts.batches_per_step, 1),
        f"the fewer rows, the smaller and the more steps{of_each}",
    )
    reason = "the fewer rows, the more often each is read"
    yield Setting("training.num_train_epochs", num_epochs(facts.rows, effort), reason)


def batch_size(rows: int, effort: str) -> int:
    """Return the number of rows per step: more and smaller steps pay where rows are few."""
    if effort == QUICK or rows >= MANY_ROWS:
        return 32
    return 8 if rows < FEW_ROWS else 16


def num_epochs(rows: int, effort: str) -> int:
    """Return the number of epochs: as many as read `ROWS_READ` rows, within bounds."""
    epochs = EPOCHS_OF_MANY_ROWS
    if rows < MANY_ROWS:
        epochs = min(max(round(ROWS_READ / rows), MIN_EPOCHS), MAX_EPOCHS)
    return {QUICK: (epochs + 1) // 2, STANDARD: epochs, THOROUGH: min(2 * epochs, MAX_EPOCHS)}[effort]


def num_steps(rows: int, effort: str) -> int:
    """Return the number of optimizer steps of a run."""
    return math.ceil(rows / batch_size(rows, effort)) * num_epochs(rows, effort)


def _rates(facts: RunFacts, effort: str) -> Iterator[Setting]:
    steps = None if facts.rows is None else num_steps(facts.rows, effort)
    encoder, heads = learning_rates(facts.width, facts.depth, steps)
    short = "" if steps is None or steps >= SHORT_RUN_STEPS else f", and a short run: {steps} steps"
    if facts.trains_adapters:
        encoder = adapter_learning_rate(encoder)
        short += f"; up to {ADAPTER_RATE_FACTOR} times as high for adapters"
    yield Setting(
        "training.learning_rate", encoder, f"an encoder of {facts.depth} layers of width {facts.width}{short}"
    )
    if _has_many_labels(facts):
        yield Setting(
            "training.head_learning_rate",
            _round(MANY_LABELS_FACTOR * heads),
            "heads start from random weights, and few rows teach each of many labels",
        )
    else:
        yield Setting("training.head_learning_rate", heads, "heads start from random weights")
    yield Setting("training.layer_lr_decay", LAYER_LR_DECAY, "lower layers are more general and need less change")
    yield Setting("training.warmup_steps", 0.1, "the first tenth of the steps, while heads are still random")


def _losses(facts: RunFacts, effort: str) -> Iterator[Setting]:
    for task in facts.tasks:
        if task.problem_type in (REGRESSION, MULTI_LABEL) or task.crf:
            yield Setting(f"tasks.{task.name}.label_smoothing", 0.0, "not for this kind of loss")
        else:
            yield Setting(f"tasks.{task.name}.label_smoothing", SMOOTHING, "softer targets for few or noisy labels")


def _heads(facts: RunFacts, effort: str) -> Iterator[Setting]:
    lstm_reason = _lstm_reason(facts, effort)
    for task in facts.tasks:
        if not task.is_token_task:
            yield Setting(f"tasks.{task.name}.head", "linear", "the only head of a sequence task")
            yield Setting(f"tasks.{task.name}.mix_layers", False, "for token tasks only")
        elif lstm_reason is not None and task.head in (None, LSTM_HEAD) and task.mix_layers is not False:
            yield Setting(f"tasks.{task.name}.head", LSTM_HEAD, lstm_reason)
            yield Setting(f"tasks.{task.name}.mix_layers", True, "pays together with the LSTM")
        else:
            yield Setting(f"tasks.{task.name}.head", "linear", "an LSTM costs time and the scores of other tasks")
            yield Setting(f"tasks.{task.name}.mix_layers", False, "pays only together with an LSTM")


def _lstm_reason(facts: RunFacts, effort: str) -> str | None:
    """Return the reason for an LSTM and mixed layers in the heads of token tasks; None if there is none."""
    if effort == THOROUGH:
        return "better tags, for a third more time per step"
    needs_last_layer = facts.freezes_layers or any(task.private_layers for task in facts.tasks)
    has_many_rows = facts.rows is not None and facts.rows >= FEW_ROWS
    if facts.has_sequence_tasks and not facts.shares_rows and has_many_rows and not needs_last_layer:
        return "reads lower layers too, which the rows of other tasks change less"
    return None


def _constraints(facts: RunFacts, effort: str) -> Iterator[Setting]:
    for task in facts.tasks:
        by_task = {by: seen for by, seen in facts.seen_types.get(task.name, {}).items() if seen.has_unseen_pairs}
        if by_task:
            by, seen = min(by_task.items(), key=lambda item: item[1].pairs / item[1].possible_pairs)
            pairs = f"only {seen.pairs} of {seen.possible_pairs} pairs of a label of {by} and an entity type occur"
            reason = f"{pairs}; about {seen.unseen_share:.1%} of new rows have another"
            yield Setting(f"tasks.{task.name}.constrained_by", by, reason)


def _word_dropout(facts: RunFacts, effort: str) -> Iterator[Setting]:
    if facts.has_token_tasks and effort == THOROUGH:
        reason = "names that no training row has are tagged by their context"
        yield Setting("training.word_dropout", WORD_DROPOUT, reason)


def _evaluation(facts: RunFacts, effort: str) -> Iterator[Setting]:
    if not facts.validation_rows:
        yield Setting("training.eval_strategy", "no", "there are no validation rows; the last step is saved")
        yield Setting("training.load_best_model_at_end", False, "needs validation rows")
        return
    metric, greater_is_better, reason = _best_metric(facts)
    yield Setting("training.metric_for_best_model", metric, reason)
    yield Setting("training.greater_is_better", greater_is_better, f"of {metric}")
    if facts.rows is None:
        return
    yield Setting("training.eval_strategy", "epoch", "once per epoch")
    if facts.rows < FEW_ROWS and not facts.evaluates_each_epoch:
        delay = num_epochs(facts.rows, effort) - LAST_EVALUATIONS + 1
        reason = f"the last {LAST_EVALUATIONS} epochs only: an evaluation takes as long as an epoch of so few rows"
        yield Setting("training.eval_delay", delay, reason)
        yield Setting("training.save_strategy", "best", "after an evaluation with a better score")
    else:
        yield Setting("training.save_strategy", "epoch", "after each evaluation")
    yield Setting("training.load_best_model_at_end", True, f"the weights with the best {metric} are kept")


def _best_metric(facts: RunFacts) -> tuple[str, bool, str]:
    if all(task.problem_type == REGRESSION for task in facts.tasks):
        return "loss", False, "regressions have no common score"
    if len(facts.tasks) == 1:
        (task,) = facts.tasks
        return f"{task.name}_{metric_of(task).main_metric}", True, "the score of the only task"
    if facts.fully_labeled:
        return "joint_accuracy", True, "share of rows that are right in every task"
    return "mean_score", True, "no row has labels for every task"


RULES: tuple[Callable[[RunFacts, str], Iterator[Setting]], ...] = (
    _length,
    _rates,
    _losses,
    _heads,
    _constraints,
    _word_dropout,
    _evaluation,
)


def _has_many_labels(facts: RunFacts) -> bool:
    return not facts.has_token_tasks and any(len(task.labels or ()) >= MANY_LABELS for task in facts.tasks)


def _given_of_tasks(tasks: Sequence[TaskConfig]) -> list[str]:
    return [f"tasks.{task.name}.{name}" for task in tasks for name in CHOSEN_FIELDS if getattr(task, name) is not None]


def _round(rate: float) -> float:
    """Round a rate to two digits."""
    return float(f"{rate:.1e}")


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
