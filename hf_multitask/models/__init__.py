"""The multi-task model: tasks, config, encoder, heads and decoding.

Imports in this folder are relative and stay inside the folder, because the same files are the remote code of a pushed
model. Importing the folder registers config, model and pipeline with transformers.
"""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_multitask import PIPELINE_NAME, MultiTaskConfig
from .encoder_loading import TokenizerConfig, find_model, load_tokenizer
from .loading import load_model
from .modeling_multitask import MultiTaskModel, MultiTaskOutput
from .pipeline_multitask import MultiTaskPipeline
from .tasks import TaskConfig

__all__ = [
    "MultiTaskConfig",
    "MultiTaskModel",
    "MultiTaskOutput",
    "TaskConfig",
    "TokenizerConfig",
    "find_model",
    "load_model",
    "load_tokenizer",
]

AutoConfig.register(MultiTaskConfig.model_type, MultiTaskConfig)
AutoModel.register(MultiTaskConfig, MultiTaskModel)
PIPELINE_REGISTRY.register_pipeline(PIPELINE_NAME, pipeline_class=MultiTaskPipeline, pt_model=AutoModel, type="text")
