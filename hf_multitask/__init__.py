"""One encoder, several jobs: multi-task training, inference and freezing on the Hugging Face Trainer.

Importing the package registers its config and model with the Auto classes.
"""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .config import RunConfig
from .data import DataConfig, MultiTaskDataCollator, PreparedData, Sampling, prepare_datasets
from .freezing import FreezeCallback, FreezeSchedule, FreezeStage, freeze
from .metrics import build_compute_metrics
from .models import MultiTaskConfig, MultiTaskModel, MultiTaskOutput, TaskConfig, load_tokenizer
from .models.configuration_multitask import PIPELINE_NAME
from .models.pipeline_multitask import MultiTaskPipeline
from .prediction import predict
from .runs import run_evaluation, run_training
from .trainer import MultiTaskTrainer
from .training_args import MultiTaskTrainingArguments

__version__ = "0.1.0"

__all__ = [
    "DataConfig",
    "FreezeCallback",
    "FreezeSchedule",
    "FreezeStage",
    "MultiTaskConfig",
    "MultiTaskDataCollator",
    "MultiTaskModel",
    "MultiTaskOutput",
    "MultiTaskPipeline",
    "MultiTaskTrainer",
    "MultiTaskTrainingArguments",
    "PreparedData",
    "RunConfig",
    "Sampling",
    "TaskConfig",
    "build_compute_metrics",
    "freeze",
    "load_tokenizer",
    "predict",
    "prepare_datasets",
    "run_evaluation",
    "run_training",
]

AutoConfig.register(MultiTaskConfig.model_type, MultiTaskConfig)
AutoModel.register(MultiTaskConfig, MultiTaskModel)
PIPELINE_REGISTRY.register_pipeline(PIPELINE_NAME, pipeline_class=MultiTaskPipeline, pt_model=AutoModel, type="text")
