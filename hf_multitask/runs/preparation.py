"""Data of a run, prepared as its config says and as its number of rows asks for."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ..data import PreparedData
from ..models import TaskConfig
from ..training.arguments import MultiTaskTrainingArguments
from ..training.settings import num_training_rows
from .chosen_settings import with_label_subwords
from .config import RunConfig
from .distillation import prepare_data


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
    data = prepare_data(usual, arguments, tokenizer, tasks)
    chosen = with_label_subwords(config, num_training_rows(data.first_training))
    # The number of rows is known only now. Few rows are prepared quickly.
    return data if chosen.data == usual.data else prepare_data(chosen, arguments, tokenizer, tasks)
