"""Config of a shared encoder with named heads."""

from dataclasses import field
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .encoder_pooling import find_pooling
from .field_types import describe_value
from .tasks import REGRESSION, TaskConfig
from .tasks_constraints import check_constraints
from .type_aliases import JsonObject

PIPELINE_NAME = "multi-task"
PIPELINE_CLASS = "pipeline_multitask.MultiTaskPipeline"

# Ids that models of older versions have in their own config: those of the tokenizer.
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


def _of_encoder(name: str, doc: str) -> property:
    """Return a property that reads and sets an attribute of the encoder's config."""

    def read(config: "MultiTaskConfig") -> Any:
        return getattr(config.encoder_config, name)

    def write(config: "MultiTaskConfig", value: int | None) -> None:
        setattr(config.encoder_config, name, value)

    return property(read, write, doc=doc)


class MultiTaskConfig(PreTrainedConfig):
    """Config of a `MultiTaskModel`.

    The sizes and special tokens of the encoder, such as ``hidden_size``, are attributes of this config, too. They are
    kept in ``encoder_config``. ``id2label`` and ``num_labels`` are those of the only task; a model with several tasks
    has them by task, and None here.

    Args:
        encoder_config: Config of the encoder, of any model type that ``AutoModel`` knows.
        tasks: Tasks, each with its labels.
        pooling: Pooling of the token states of a text to one vector, such as ``"mean"`` or ``"cls"``; see `pool`.
        normalize_embeddings: Whether `MultiTaskModel.encode` scales its vectors to length 1. The heads read the pooled
            vectors without scaling.
        prompts: Texts that `MultiTaskModel.encode` puts before a sentence, by name. Only `encode` uses them.
        default_prompt_name: Name of the prompt of sentences without another one.
        include_prompt: Whether the tokens of a prompt count in the pooling.
        truncate_dim: Number of dimensions of the vectors of `MultiTaskModel.encode`; all if None.
        initializer_range: Standard deviation of the weights of new heads. `MultiTaskModel.from_encoder` sets it to the
            encoder's value.
        overlap: Number of subwords that a window of a text longer than the tokenizer's ``model_max_length`` shares
            with the window before. Defaults to a quarter of that length.
        truncate: Whether to truncate such a text instead of cutting it into windows.
        adapters: Adapters of PEFT in the encoder, by name: the fields of their configs.
        active_adapter: Name of the adapter that runs.
        base_encoder: Encoder that has the weights which a saved model with adapters leaves out: its name, its revision
            and a digest of these weights.

    Raises:
        ValueError: If ``pooling`` is unknown, or two tasks have the same name.
    """

    model_type = "multi-task"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "encoder_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["losses", "hidden_states", "attentions"]

    encoder_config: PreTrainedConfig | dict | None = None
    tasks: list[TaskConfig] = field(default_factory=list)
    pooling: str = "mean"
    normalize_embeddings: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    include_prompt: bool = True
    truncate_dim: int | None = None
    initializer_range: float = 0.02
    overlap: int | None = None
    truncate: bool = False
    adapters: dict[str, dict] = field(default_factory=dict)
    active_adapter: str | None = None
    base_encoder: dict | None = None

    hidden_size = _of_encoder("hidden_size", "Width of the encoder's states.")
    num_hidden_layers = _of_encoder("num_hidden_layers", "Number of layers of the encoder.")
    num_attention_heads = _of_encoder("num_attention_heads", "Number of attention heads of each layer of the encoder.")
    vocab_size = _of_encoder("vocab_size", "Number of tokens that the encoder has embeddings for.")
    max_position_embeddings = _of_encoder("max_position_embeddings", "Number of positions of the encoder.")
    pad_token_id = _of_encoder("pad_token_id", "Id of the encoder's padding token.")
    bos_token_id = _of_encoder("bos_token_id", "Id of the encoder's token at the start of a text.")
    eos_token_id = _of_encoder("eos_token_id", "Id of the encoder's token at the end of a text.")

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the values and turn the tasks of a saved config into `TaskConfig`."""
        self.pooling = find_pooling(self.pooling)
        if not isinstance(self.tasks, (list, tuple)):
            raise ValueError(f"tasks: expected a list of tasks, found {describe_value(self.tasks)}.")
        tasks = [task if isinstance(task, TaskConfig) else _saved_task(task) for task in self.tasks]
        self.tasks = [task.with_defaults() for task in tasks]
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"tasks must have different names; more than one is called {', '.join(twice)}.")
        check_constraints(self.tasks)
        if not type(self).__module__.startswith(TRANSFORMERS_DYNAMIC_MODULE_NAME):
            # Only needed without hf_multitask: the installed package registers the pipeline, remote code does not.
            kwargs.pop("custom_pipelines", None)
        for name in TOKEN_IDS:
            kwargs.pop(name, None)
        has_labels = self.id2label is not None or kwargs.get("num_labels") is not None
        super().__post_init__(**kwargs)
        if not has_labels:
            self.follow_tasks()

    def follow_tasks(self) -> None:
        """Set ``id2label`` and ``label2id`` to the labels of the only task, or to None if there is not one task."""
        self.id2label = self.label2id = None
        if len(self.tasks) != 1:
            return
        (task,) = self.tasks
        if task.labels is not None:
            self.id2label, self.label2id = task.id2label, task.label2id
        elif task.problem_type == REGRESSION:
            self.num_labels = task.num_labels

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the config of the encoder, whatever part is asked for: there is no other that reads texts."""
        if isinstance(self.encoder_config, PreTrainedConfig):
            return self.encoder_config.get_text_config()
        return self

    @classmethod
    def from_dict(cls, config_dict: JsonObject, **kwargs: Any) -> Any:
        """Build the config from the content of ``config.json``, as ``PreTrainedConfig`` does.

        Raises:
            ValueError: If it is the config of another kind of model.
        """
        found = config_dict.get("model_type", cls.model_type)
        if found != cls.model_type:
            raise ValueError(f"config: expected the config of a multi-task model, found one of type {found!r}.")
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> JsonObject:
        """Return the config as a mapping that can be written as JSON."""
        values = super().to_dict()
        values["tasks"] = [task.to_dict() for task in self.tasks]
        for name in ("adapters", "active_adapter", "base_encoder"):
            if not values[name]:
                del values[name]
        values["custom_pipelines"] = {
            PIPELINE_NAME: {"impl": PIPELINE_CLASS, "pt": ["AutoModel"], "type": "text"},
        }
        return values


def _saved_task(values: JsonObject) -> TaskConfig:
    """Build a task of a saved config. Its keys were not typed by a user: an unknown one is not a misspelling."""
    if not isinstance(values, dict):
        raise ValueError(f"tasks: expected a mapping for each task, found {describe_value(values)}.")
    unknown = [key for key in values if key not in TaskConfig.__dataclass_fields__]
    if unknown:
        raise ValueError(
            f"task {values.get('name', '?')!r}: found {', '.join(map(repr, unknown))}, which this version of "
            "hf_multitask does not know: the model was saved by a newer one. Update hf_multitask to load it."
        )
    return TaskConfig.from_dict(values)
