"""The model card that a run leaves beside its model."""

from collections.abc import Mapping

from huggingface_hub import ModelCardData

from .models import MultiTaskConfig, TaskConfig

MAX_LABELS_SHOWN = 30


def build_model_card(config: MultiTaskConfig, encoder: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Write a model card: tasks, labels, metrics and how to use the model.

    Args:
        config: Config of the model.
        encoder: Name of the encoder that it was trained from.
        metrics: Metrics by split.

    Returns:
        Markdown with a YAML header.
    """
    header = ModelCardData(library_name="hf-multitask", tags=["multi-task", "transformers"]).to_yaml()
    tasks = "\n".join(_task_row(task) for task in config.tasks)
    scores = "\n\n".join(_metrics_table(split, values) for split, values in metrics.items())
    return f"""---
{header}
---
# Multi-task model on {encoder}

One encoder, {len(config.tasks)} heads, made with `hf_multitask`. Sentence vectors are pooled by `{config.pooling}`.

| Task | Type | Labels |
|---|---|---|
{tasks}

## Scores

{scores or "None were measured."}

## Use

```python
from hf_multitask import MultiTaskModel, load_tokenizer, predict

folder = "."  # the folder or hub name of this model
model = MultiTaskModel.from_pretrained(folder)
tokenizer = load_tokenizer(folder)
print(next(predict(model, tokenizer, ["A sentence to analyse."])))
```
"""


def _task_row(task: TaskConfig) -> str:
    labels = task.labels or []
    shown = ", ".join(labels[:MAX_LABELS_SHOWN]) + (" …" if len(labels) > MAX_LABELS_SHOWN else "")
    return f"| {task.name} | {task.problem_type or task.type} | {len(labels)}: {shown} |"


def _metrics_table(split: str, metrics: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    return f"### {split}\n\n| Metric | Value |\n|---|---|\n{rows}"
