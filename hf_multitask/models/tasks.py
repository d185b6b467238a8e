"""Description of a task, shared by data, model, losses and metrics."""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace

from torch import nn

from .abstention import Abstention
from .field_types import check_fields, describe_value
from .messages import unknown_name_message
from .tags_iob2 import OUTSIDE, entity_types, tags_of_types
from .tags_min_score import MinScore, check_min_score
from .tags_schemes import scheme_of_name
from .tasks_class_weights import check_class_weights, weights_by_label
from .type_aliases import JsonObject

SEQUENCE_CLASSIFICATION = "sequence_classification"
TOKEN_CLASSIFICATION = "token_classification"  # noqa: S105 (no password)
TASK_TYPES = (SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION)

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"
PROBLEM_TYPES = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)

LABEL_SUBWORD = ("first", "last")

LINEAR_HEAD = "linear"
LSTM_HEAD = "lstm"
HEAD_KINDS = (LINEAR_HEAD, LSTM_HEAD)
REMOVED_HEAD = "mlp"

# Fields of a task that a run chooses if they are None.
CHOSEN_FIELDS = ("label_smoothing", "head", "mix_layers", "constrained_by")

# The name of a metric is <split>_<task>_<metric>: a task with one of these names would make names collide.
RESERVED_NAMES = ("eval", "joint", "test", "train", "validation")


@dataclass
class TaskConfig:
    """One task: a named head on the shared encoder.

    Args:
        name: Name of the task, its head and its metrics; letters, digits and underscores.
        type: ``"sequence_classification"`` or ``"token_classification"``.
        labels: Label names in the order of their ids. Read from the training data if None. The tags of a token task
            are IOB2; an entity type always has both its B- and its I- tag.
        column: Column of the data with the labels. Defaults to the name of the task.
        problem_type: For sequence tasks, ``"single_label_classification"``, ``"multi_label_classification"`` or
            ``"regression"``. Read from the data if None.
        loss_weight: Factor of the task's loss in the sum of the losses.
        dropout: Dropout probability before the last linear layer of the head.
        constrained_decoding: For token tasks, whether to predict only tag sequences that IOB2 allows.
        constrained_by: For token tasks, name of a single-label task: entity types that are not in ``types_by_label``
            for the label that is predicted for a text are unlikely in it. If None, a run chooses it; a model has
            False.
        types_by_label: For tasks with ``constrained_by``, the entity types that occur with each label of that task; a
            label that is left out allows all. `prepare_datasets` adds those of the training rows.
        unseen_types_share: Share of texts with an entity type that is not in ``types_by_label`` for their label. Its
            logarithm is added to the logits of such tags; with 0, they never occur. If None, `prepare_datasets`
            estimates it in the training rows; without them, it is 0.
        tag_scheme: For token tasks, the scheme of the tags in the data: ``"IOB1"``, ``"IOB2"``, ``"BILOU"``,
            ``"BIOES"`` or ``"raw"``. Recognized from the data if None. Internally and in predictions, tags are IOB2.
        label_subword: For token tasks, the subword of a word that represents the word: ``"first"`` or ``"last"``.
            `prepare_datasets` sets it.
        strict_tags: For token tasks, whether to raise on tags that break the rule of their scheme, instead of reading
            them as in conlleval.
        class_weights: Factor of the loss of each label's items: ``"balanced"`` (computed from the label counts of the
            training split, see `data.labels.balance.complete_class_weights`), or weights by label, 1.0 for missing
            ones. For token tasks, a key is a tag, or an entity type for both its tags. For multi-label tasks, it is
            the weight of the presence of a label (``pos_weight``). Once the labels are known, it contains the weight
            of every label.
        label_smoothing: Share of the target that is spread evenly over the labels, in [0, 1). For multi-label tasks,
            the targets 0 and 1 move by half of it towards 0.5. If None, a run chooses it; a model has 0.0.
        head: Kind of head: ``"linear"`` or, for token tasks, ``"lstm"`` (a bidirectional LSTM over the words of a
            text). If None, a run chooses it; a model has ``"linear"``.
        mix_layers: For token tasks, whether the head reads a learned mix of the states of all layers instead of the
            states of the last layer. If None, a run chooses it; a model has False.
        private_layers: Number of upper layers of the encoder that the task has its own copies of; the layers below
            them, at least one, are shared. 0 to share all.
        crf: For token tasks, whether the head has a linear-chain conditional random field on its outputs: the loss and
            the predictions are those of whole tag sequences.
        temperature: Temperature of the scores, above 0: logits are divided by it before they become probabilities (Guo
            et al. 2017, section 4.2). It changes no loss and no label. `MultiTaskTrainer.calibrate` fits it on
            validation.
        abstain: For single-label tasks, how the task abstains from texts out of scope: the fields of `Abstention`,
            such as ``{method: energy, false_rejections: 0.04}``. The threshold is fitted on validation. None without.
        out_of_scope: For single-label tasks, the label in the data of rows that are out of scope, which is not one of
            ``labels``. In training, they are rows out of scope (see ``outlier_weight``), and it is the answer for
            rejected texts.
        outlier_weight: For single-label tasks, weight of the mean loss of training rows out of scope: cross entropy to
            equal probabilities of all labels (outlier exposure, Hendrycks et al. 2019; 0.5 is theirs), or, if the
            task abstains by ``energy``, the mean square of the logits. 0 leaves these rows out.
        min_score: For token tasks, the score from which an entity is part of an answer: a number in [0, 1], or numbers
            by entity type. All are if None.
        entity_precision: For token tasks, the share of right ones among the entities of an answer, in (0, 1). The
            lowest ``min_score`` that reaches it on validation is set at the end of a training. None without.

    Raises:
        ValueError: If a value is not allowed. The message names the task, the value and the allowed values.
    """

    name: str
    type: str
    labels: list[str] | None = None
    column: str | None = field(default=None, metadata={"default_field": "name"})
    problem_type: str | None = None
    loss_weight: float = 1.0
    dropout: float = 0.1
    constrained_decoding: bool = True
    constrained_by: str | bool | None = None
    types_by_label: dict[str, list[str]] | None = None
    unseen_types_share: float | None = None
    tag_scheme: str | None = None
    label_subword: str = "first"
    strict_tags: bool = False
    class_weights: str | dict[str, float] | None = None
    label_smoothing: float | None = None
    head: str | None = None
    mix_layers: bool | None = None
    private_layers: int = 0
    crf: bool = False
    temperature: float = 1.0
    abstain: JsonObject | None = None
    out_of_scope: str | None = None
    outlier_weight: float = 0.5
    min_score: MinScore | None = None
    entity_precision: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, f"task {describe_value(self.name)}: ")
        self._check_name()
        if self.type not in TASK_TYPES:
            raise ValueError(f"task {self.name!r}: {unknown_name_message('task type', self.type, TASK_TYPES)}")
        self._check_problem_type()
        if self.loss_weight < 0:
            raise ValueError(f"task {self.name!r}: loss_weight must be a number from 0, found {self.loss_weight!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"task {self.name!r}: dropout must be a number in [0, 1), found {self.dropout!r}.")
        if self.private_layers < 0:
            raise ValueError(
                f"task {self.name!r}: private_layers must be a number from 0, found {self.private_layers!r}."
            )
        self._check_scheme()
        if self.column is None:
            self.column = self.name
        if self.labels is not None:
            self.labels = self._checked_labels(list(self.labels))
        self._check_balance()
        self._check_head()
        self._check_temperature()
        self._check_scope()
        self._check_entities()
        self._check_constraint()

    @classmethod
    def from_dict(cls, values: JsonObject) -> "TaskConfig":
        """Build a task from a mapping, such as an entry of a config file.

        Args:
            values: Values by field name.

        Returns:
            The task.

        Raises:
            ValueError: If a key is not a field of a task, or ``name`` or ``type`` is missing.
        """
        allowed = [item.name for item in fields(cls)]
        for key in values:
            if key not in allowed:
                raise ValueError(f"task {values.get('name', '?')!r}: {unknown_name_message('key', key, allowed)}")
        for key in ("name", "type"):
            if values.get(key) is None:
                raise ValueError(
                    f"task {values.get('name', '?')!r}: the key {key!r} is missing, found {', '.join(values)}."
                )
        return cls(**values)

    def to_dict(self) -> JsonObject:
        """Return the fields as a mapping that can be written as JSON and YAML."""
        return asdict(self)

    def with_defaults(self) -> "TaskConfig":
        """Return the task with the values of a plain head for the fields of `CHOSEN_FIELDS` that are None."""
        return replace(
            self,
            label_smoothing=self.label_smoothing or 0.0,
            head=self.head or LINEAR_HEAD,
            mix_layers=bool(self.mix_layers),
            constrained_by=self.constrained_by or False,
        )

    @property
    def is_token_task(self) -> bool:
        """Whether the task labels words rather than whole texts."""
        return self.type == TOKEN_CLASSIFICATION

    @property
    def num_labels(self) -> int:
        """Number of outputs of the head; 1 for regression without names."""
        if self.labels is not None:
            return len(self.labels)
        if self.problem_type == REGRESSION:
            return 1
        raise ValueError(
            f"task {self.name!r} has no labels yet: give `labels`, or take the tasks that prepare_datasets returns."
        )

    @property
    def id2label(self) -> dict[int, str]:
        """Label names by id."""
        return dict(enumerate(self.labels or []))

    @property
    def label2id(self) -> dict[str, int]:
        """Label ids by name."""
        return {label: i for i, label in enumerate(self.labels or [])}

    @property
    def abstention(self) -> Abstention | None:
        """How the task abstains, None if it does not."""
        return None if self.abstain is None else Abstention(**self.abstain)

    @property
    def may_abstain(self) -> bool:
        """Whether rows can be out of scope: the task gives a text one label, as far as that is known."""
        return not self.is_token_task and self.problem_type in (None, SINGLE_LABEL)

    @property
    def has_scope(self) -> bool:
        """Whether rows can be out of scope of the task: it abstains, or it names their label."""
        return self.may_abstain and (self.abstain is not None or self.out_of_scope is not None)

    def _check_name(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name or "", flags=re.ASCII):
            raise ValueError(
                f"task name {self.name!r}: expected letters, digits and underscores, not starting with a digit."
            )
        if self.name in RESERVED_NAMES:
            raise ValueError(f"task name {self.name!r} is reserved; reserved names: {', '.join(RESERVED_NAMES)}.")
        if hasattr(nn.ModuleDict, self.name):
            raise ValueError(
                f"task name {self.name!r} is the name of a method of torch.nn.ModuleDict; choose another."
            )

    def _check_scheme(self) -> None:
        if self.label_subword not in LABEL_SUBWORD:
            raise ValueError(
                f"task {self.name!r}: {unknown_name_message('label_subword', self.label_subword, LABEL_SUBWORD)}"
            )
        if self.tag_scheme is None and not self.strict_tags:
            return
        if not self.is_token_task:
            raise ValueError(f"task {self.name!r}: tag_scheme and strict_tags are for token tasks.")
        if self.tag_scheme is not None:
            try:
                self.tag_scheme = scheme_of_name(self.tag_scheme)
            except ValueError as error:
                raise ValueError(f"task {self.name!r}: {error}") from error

    def _check_problem_type(self) -> None:
        if self.problem_type is None:
            return
        if self.is_token_task:
            raise ValueError(f"task {self.name!r}: problem_type is for sequence tasks, found {self.problem_type!r}.")
        if self.problem_type not in PROBLEM_TYPES:
            raise ValueError(
                f"task {self.name!r}: {unknown_name_message('problem_type', self.problem_type, PROBLEM_TYPES)}"
            )

    def _check_balance(self) -> None:
        smoothing = 0.0 if self.label_smoothing is None else self.label_smoothing
        if not 0 <= smoothing < 1:
            raise ValueError(f"task {self.name!r}: label_smoothing must be a number in [0, 1), found {smoothing!r}.")
        if self.problem_type == REGRESSION and (smoothing or self.class_weights is not None):
            raise ValueError(f"task {self.name!r}: class_weights and label_smoothing are not for regression.")
        if self.class_weights is None:
            return
        try:
            check_class_weights(self.class_weights)
            if self.labels is not None and not isinstance(self.class_weights, str):
                self.class_weights = weights_by_label(self.class_weights, self.labels, self.is_token_task)
        except ValueError as error:
            raise ValueError(f"task {self.name!r}: {error}") from error

    def _check_head(self) -> None:
        if self.head == REMOVED_HEAD:
            instead = "'linear' or 'lstm'" if self.is_token_task else "'linear'"
            raise ValueError(
                f"task {self.name!r}: the head {REMOVED_HEAD!r} was removed because it did not improve scores. Use "
                f"{instead}; a saved model with this head has to be trained again."
            )
        if self.head is not None and self.head not in HEAD_KINDS:
            raise ValueError(f"task {self.name!r}: {unknown_name_message('head', self.head, HEAD_KINDS)}")
        if self.head == LSTM_HEAD and not self.is_token_task:
            raise ValueError(f"task {self.name!r}: head='lstm' is for token tasks; choose 'linear'.")
        for name in ("mix_layers", "crf"):
            if getattr(self, name) and not self.is_token_task:
                raise ValueError(f"task {self.name!r}: {name} is for token tasks.")
        if self.crf and (self.class_weights is not None or self.label_smoothing):
            raise ValueError(
                f"task {self.name!r}: class_weights and label_smoothing are for single tags, but with crf=True the "
                "loss is that of a whole tag sequence. Leave one of them out."
            )

    def _check_temperature(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"task {self.name!r}: temperature must be a number above 0, found {self.temperature!r}.")
        if self.problem_type == REGRESSION and self.temperature != 1:
            raise ValueError(f"task {self.name!r}: temperature is for scores of labels, not for regression.")

    def _check_scope(self) -> None:
        for name in ("abstain", "out_of_scope"):
            if getattr(self, name) is not None and not self.may_abstain:
                raise ValueError(f"task {self.name!r}: {name} is for tasks with one label per text.")
        if self.outlier_weight < 0:
            raise ValueError(
                f"task {self.name!r}: outlier_weight must be a number from 0, found {self.outlier_weight!r}."
            )
        if self.abstain is not None:
            try:
                self.abstain = Abstention.from_dict(self.abstain).to_dict()
            except ValueError as error:
                raise ValueError(f"task {self.name!r}: {error}") from error
        if self.out_of_scope is not None and self.out_of_scope in (self.labels or []):
            raise ValueError(
                f"task {self.name!r}: out_of_scope {self.out_of_scope!r} is one of the labels. Leave it out of them."
            )

    def _check_entities(self) -> None:
        for name in ("min_score", "entity_precision"):
            if getattr(self, name) is not None and not self.is_token_task:
                raise ValueError(f"task {self.name!r}: {name} is for token tasks.")
        if self.entity_precision is not None and not 0 < self.entity_precision < 1:
            raise ValueError(
                f"task {self.name!r}: entity_precision must be a number between 0 and 1, found "
                f"{self.entity_precision!r}."
            )
        if self.min_score is not None:
            try:
                check_min_score(self.min_score, self.labels)
            except ValueError as error:
                raise ValueError(f"task {self.name!r}: {error}") from error

    def _check_constraint(self) -> None:
        if self.constrained_by is True or self.constrained_by == "":
            raise ValueError(
                f"task {self.name!r}: constrained_by must be the name of a task, or false, found "
                f"{describe_value(self.constrained_by)}."
            )
        if self.constrained_by and not self.is_token_task:
            raise ValueError(f"task {self.name!r}: constrained_by is for token tasks.")
        if self.unseen_types_share is not None and not 0 <= self.unseen_types_share <= 1:
            raise ValueError(
                f"task {self.name!r}: unseen_types_share must be a number in [0, 1], found "
                f"{self.unseen_types_share!r}."
            )
        if self.types_by_label is None:
            return
        if not self.constrained_by:
            raise ValueError(f"task {self.name!r}: types_by_label is for tasks with constrained_by.")
        allowed = entity_types(self.labels or [])
        for kind in (kind for kinds in self.types_by_label.values() for kind in kinds):
            if allowed and kind not in allowed:
                raise ValueError(
                    f"task {self.name!r}: {unknown_name_message('entity type in types_by_label', kind, allowed)}"
                )

    def _checked_labels(self, labels: list[str]) -> list[str]:
        twice = sorted(label for label, count in Counter(labels).items() if count > 1)
        if twice:
            raise ValueError(f"task {self.name!r}: labels occur twice: {', '.join(twice)}.")
        if self.is_token_task:
            present = set(labels)
            missing = [tag for tag in [OUTSIDE, *tags_of_types(entity_types(labels))] if tag not in present]
            return labels + missing
        if not labels:
            raise ValueError(f"task {self.name!r}: labels is empty; leave it out to read the labels from the data.")
        return labels
