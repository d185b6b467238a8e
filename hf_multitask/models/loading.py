"""Loading of a saved multi-task model with its tokenizer."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from .configuration_multitask import MultiTaskConfig
from .encoder_loading import find_model, load_config, load_tokenizer
from .encoder_vocabulary import check_vocabulary
from .modeling_multitask import MultiTaskModel


def load_model(model_dir: str | Path, **hub_kwargs: Any) -> tuple[MultiTaskModel, PreTrainedTokenizerBase]:
    """Load a saved model and its tokenizer.

    Args:
        model_dir: Folder or hub name of the model.
        hub_kwargs: Passed to ``from_pretrained``: ``revision``, ``token``, ``cache_dir``.

    Returns:
        The model, in eval mode, and the tokenizer.

    Raises:
        ValueError: If the model does not exist, cannot be accessed, is not a multi-task model, has a tokenizer with
            more tokens than the model has embeddings, or if some of its files or weights are missing or damaged.
    """
    source = find_model(model_dir)
    if hub_kwargs.get("revision") is not None and Path(source).is_dir():
        raise ValueError(f"revision: is of a model on the hub; {str(model_dir)!r} is a folder.")
    config = load_config(source, **hub_kwargs)
    if not isinstance(config, MultiTaskConfig):
        raise ValueError(f"{model_dir}: expected a multi-task model, found a model of type {config.model_type!r}.")
    tokenizer = load_tokenizer(source, **hub_kwargs)
    check_vocabulary(tokenizer, config, source)
    return MultiTaskModel.from_pretrained(source, config=config, **hub_kwargs), tokenizer
