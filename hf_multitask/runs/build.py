"""Model, data and trainer of a run, built from its config."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import set_seed

from ..data import DataConfig, MultiTaskDataCollator, PreparedData
from ..data.preparation import check_task_names
from ..models import MultiTaskConfig, MultiTaskModel, TaskConfig, find_model
from ..models.encoder_attention import check_attention
from ..models.encoder_loading import check_max_length, load_config
from ..models.encoder_models import check_source
from ..models.encoder_vocabulary import check_vocabulary
from ..models.tasks_editing import continued_tasks, set_tasks
from ..training.contrastive import ContrastiveCallback
from ..training.settings import RunFacts
from ..training.trainer import MultiTaskTrainer
from .chosen_settings import settings_of
from .config import RunConfig
from .lora import add_lora
from .preparation import prepare_run_data

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunParts:
    """Loaded parts of a run, from which trainers can be built.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        data: The prepared data, with the tasks of the model.
        facts: Facts that settings are chosen from.
    """

    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerBase
    data: PreparedData
    facts: RunFacts


def build_trainer(
    config: RunConfig, data: PreparedData | None = None, callbacks: Sequence[TrainerCallback] = ()
) -> tuple[MultiTaskTrainer, PreparedData]:
    """Prepare the data and build the model and the trainer of a run.

    Args:
        config: Config of the run.
        data: Prepared data of the config, or a selection of its rows and tasks. Prepared here if None.
        callbacks: More callbacks of the trainer.

    Returns:
        The trainer and the data. If the data has folds, the trainer is that of the first fold.

    Raises:
        ValueError: If the config or the data is invalid.
    """
    parts = load_parts(config, data)
    return assemble_trainer(config, parts, callbacks), parts.data


def load_parts(config: RunConfig, data: PreparedData | None = None, freezes_layers: bool = False) -> RunParts:
    """Load the model and the tokenizer of a run, and prepare its data.

    Args:
        config: Config of the run.
        data: See `build_trainer`.
        freezes_layers: Whether layers will be frozen although the config freezes none, as in a study.

    Returns:
        The parts.

    Raises:
        ValueError: If the config or the data is invalid.
    """
    arguments = config.training_arguments()
    # The encoder and the tasks are checked before the data, which takes longer to prepare.
    source_config = load_config(find_model(config.encoder))
    encoder_config, tasks, known_tasks = source_config, config.tasks, set()
    if isinstance(source_config, MultiTaskConfig):
        # Its ``__post_init__`` has made a config of a mapping.
        encoder_config = source_config.encoder_config  # type: ignore[assignment]
        tasks = _continued_tasks(config, source_config)
        known_tasks = {task.name for task in source_config.tasks}
    else:
        check_source(config.encoder, find_model(config.encoder), source_config)
    if data is None:
        check_task_names(config.data_configs, tasks, known_tasks)
    if config.attn_implementation is not None:
        check_attention(encoder_config, config.attn_implementation)
    for data_config in config.data_configs:
        check_max_length(data_config.max_length, encoder_config)
    tokenizer = config.load_tokenizer()
    check_vocabulary(tokenizer, encoder_config, config.encoder)
    if data is None:
        data = prepare_run_data(config, arguments, tokenizer, tasks)
    facts = RunFacts.of(
        data.first_training, encoder_config, arguments.world_size * arguments.gradient_accumulation_steps
    )
    facts = replace(facts, freezes_layers=freezes_layers)
    data = replace(data, tasks=settings_of(config, facts).tasks)
    # Set after the data is prepared, so that the initial weights of new heads do not depend on its random draws.
    set_seed(arguments.seed)
    model = _build_model(config, source_config, data.tasks)
    _save_length_settings(config.data_configs[0], model, tokenizer)
    return RunParts(model, tokenizer, data, facts)


def assemble_trainer(
    config: RunConfig, parts: RunParts, callbacks: Sequence[TrainerCallback] = ()
) -> MultiTaskTrainer:
    """Build the trainer of a run from loaded parts.

    Args:
        config: Config of the run. Its ``training`` and ``freeze`` may differ from those that the parts were loaded
            with.
        parts: Parts of the run.
        callbacks: More callbacks of the trainer.

    Returns:
        The trainer.

    Raises:
        ValueError: If the schedule does not fit the model, or ``max_tokens_per_batch`` the training rows.
    """
    arguments = config.training_arguments(settings_of(config, parts.facts).training)
    data = parts.data.first_training
    trainer = MultiTaskTrainer(
        model=parts.model,
        args=arguments,
        freeze_schedule=config.freeze,
        sampling=config.sampling,
        distillation=None if config.distill is None else config.distill.settings(),
        train_dataset=data["train"],
        eval_dataset=data.get("validation"),
        processing_class=parts.tokenizer,
        callbacks=[*_warm_up(config, parts.tokenizer, data), *callbacks],
    )
    schedule = trainer.freeze_schedule
    if config.contrastive is not None and schedule is not None and schedule.protect:
        raise ValueError(
            f"contrastive: the schedule protects {', '.join(schedule.protect)} from changes of the encoder during the "
            "training, but the warm-up before it changes the encoder. Leave one of them out."
        )
    return trainer


def _warm_up(config: RunConfig, tokenizer: PreTrainedTokenizerBase, data: PreparedData) -> list[TrainerCallback]:
    """Return the contrastive warm-up of a run, if it has one."""
    if config.contrastive is None:
        return []
    collator = MultiTaskDataCollator(tokenizer, data.tasks)
    return [ContrastiveCallback(data["train"], collator, config.contrastive)]


def _continued_tasks(config: RunConfig, source_config: MultiTaskConfig) -> list[TaskConfig]:
    """Return the tasks of a run that starts from a multi-task model."""
    if config.pooling not in (None, source_config.pooling):
        raise ValueError(
            f"pooling is {config.pooling!r}, but {config.encoder} is a multi-task model whose heads were trained with "
            f"{source_config.pooling!r}. Leave it out."
        )
    names = [task.name for task in config.tasks]
    if left_out := [task.name for task in source_config.tasks if task.name not in names]:
        logger.warning("%s: its tasks %s are not in `tasks` and left out.", config.encoder, ", ".join(left_out))
    return continued_tasks(config.tasks, source_config.tasks)


def _build_model(config: RunConfig, source_config: PreTrainedConfig, tasks: Sequence[TaskConfig]) -> MultiTaskModel:
    """Put heads on the encoder and adapters into it. That of a multi-task model keeps its heads of the same tasks."""
    attention = config.attn_implementation
    if isinstance(source_config, MultiTaskConfig):
        model = MultiTaskModel.from_pretrained(
            find_model(config.encoder), dtype=torch.float32, attn_implementation=attention
        )
        set_tasks(model, tasks)
    else:
        model = MultiTaskModel.from_encoder(config.encoder, tasks, config.pooling, attention)
    if config.lora is not None:
        add_lora(model, config.lora)
    return model


def _save_length_settings(config: DataConfig, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save with the model and the tokenizer how long texts are cut, so that predictions cut them the same way."""
    if config.max_length is not None:
        tokenizer.model_max_length = config.max_length
    model.config.overlap, model.config.truncate = config.overlap, config.truncate
