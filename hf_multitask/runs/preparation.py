"""Data of a run, prepared as its config says and as its number of rows asks for."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from ..data import PreparedData, prepare_datasets
from ..models import TaskConfig
from ..models.type_aliases import JsonObject
from ..prediction.teachers import check_teacher
from ..training.arguments import MultiTaskTrainingArguments
from ..training.settings import num_training_rows
from ..training.teacher_targets import add_teacher_targets
from .chosen_settings import with_label_subwords
from .config import RunConfig


def prepare_run_data(
    config: RunConfig,
    arguments: MultiTaskTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[TaskConfig],
) -> PreparedData:
    """Prepare the data of a run, with unlabeled rows and the scores of its teacher if it has one.

    Args:
        config: Config of the run. If it leaves out ``label_subwords``, they depend on the number of rows.
        arguments: Its training arguments.
        tokenizer: Tokenizer of the model.
        tasks: Tasks of the model.

    Returns:
        The data.

    Raises:
        ValueError: If the data or the teacher is invalid.
    """
    usual = with_label_subwords(config, None)
    data = _prepare(usual, arguments, tokenizer, tasks)
    chosen = with_label_subwords(config, num_training_rows(data.first_training))
    # The number of rows is known only now. Few rows are prepared quickly.
    return data if chosen.data == usual.data else _prepare(chosen, arguments, tokenizer, tasks)


def _prepare(
    config: RunConfig,
    arguments: MultiTaskTrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[TaskConfig],
) -> PreparedData:
    distill = config.distill
    if distill is None:
        return prepare_datasets(config.data_configs, tokenizer, tasks)
    for name in distill.teachers:
        check_teacher(name)
    configs = list(config.data_configs)
    if distill.data is not None:
        # The settings by which texts are cut and read must be those of the labeled rows.
        unlabeled: JsonObject = {
            "train": distill.data,
            "validation": None,
            "test": None,
            "validation_split": None,
            "tasks": [],
        }
        hub: JsonObject = {"name": None, "config": None, "revision": None, "format": None}
        configs.append(replace(configs[0], **unlabeled, **hub))
    data = prepare_datasets(configs, tokenizer, tasks, train_texts=True)
    return add_teacher_targets(
        data,
        distill.teachers,
        None if distill.tasks is None else list(distill.tasks),
        arguments.per_device_eval_batch_size,
        arguments.device,
    )
