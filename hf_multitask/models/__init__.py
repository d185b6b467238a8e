"""The multi-task model: tasks, config, encoder, heads and decoding.

Imports in this folder are relative and stay inside the folder, because the same files are the remote code of a pushed
model.
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
