"""The model: tasks, config, encoder, heads, decoding.

Imports inside this folder are relative and stay inside it: the same files are the code that a pushed model carries.
"""

from .configuration_multitask import MultiTaskConfig
from .encoder_loading import find_model, load_tokenizer
from .loading import load_model
from .modeling_multitask import MultiTaskModel, MultiTaskOutput
from .tasks import TaskConfig

__all__ = [
    "MultiTaskConfig",
    "MultiTaskModel",
    "MultiTaskOutput",
    "TaskConfig",
    "find_model",
    "load_model",
    "load_tokenizer",
]
