"""The model of a server: its loading, and what is said about it."""

from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from .. import __version__
from ..models.loading import load_model
from ..models.pipeline_multitask import MultiTaskPipeline
from ..models.type_aliases import JsonObject
from .settings import ServerSettings

_LIMITS = ("max_texts", "max_characters", "max_body_bytes")


def load_pipeline(settings: ServerSettings) -> MultiTaskPipeline:
    """Load the model of a server.

    Args:
        settings: Settings.

    Returns:
        Its pipeline.

    Raises:
        ValueError: If the model cannot be loaded, or not on the device.
        FileNotFoundError: If it has no graph for the backend.
        ImportError: If a package is missing.
    """
    # Workers share the threads that one process would use.
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.workers))
    model, tokenizer = load_model(settings.model, revision=settings.revision)
    try:
        return MultiTaskPipeline(model, tokenizer, backend=settings.backend, device=settings.device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        raise ValueError(f"device: {settings.device!r} cannot be used. {' '.join(str(error).split())}") from error


def model_facts(pipeline: MultiTaskPipeline, settings: ServerSettings) -> JsonObject:
    """Return what callers may know: tasks with labels, the limits of requests, and versions.

    Args:
        pipeline: Pipeline of the model.
        settings: Settings.

    Returns:
        The facts, without the place of the model on this machine.
    """
    tasks = [
        {"name": task.name, "type": task.type, "problem_type": task.problem_type, "labels": task.labels}
        for task in pipeline.model.config.tasks
    ]
    limits = asdict(settings)
    is_folder = Path(settings.model).is_dir()
    return {
        "model": Path(settings.model).resolve().name if is_folder else settings.model,
        "commit": getattr(pipeline.model.config, "_commit_hash", None),
        "tasks": tasks,
        "backend": settings.backend,
        "device": str(pipeline.device),
        "limits": {name: limits[name] for name in _LIMITS},
        "versions": {
            "hf_multitask": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
