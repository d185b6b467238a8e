"""Model card: tasks, usage, training data, scores, freezing stages and license."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from .configuration_multitask import PIPELINE_NAME, MultiTaskConfig
from .hub_card_metadata import Ingredient, TrainingFacts, card_metadata, encoder_card, encoder_name
from .layer_groups import layer_ranges
from .markdown import escape_markdown
from .tasks import TaskConfig

CARD_NAME = "README.md"
HERE = "."  # the folder that contains the card
MAX_LABELS_SHOWN = 30
_EXAMPLE = "A sentence to analyze."


def build_model_card(
    config: MultiTaskConfig,
    name: str = HERE,
    training: TrainingFacts | None = None,
    title: str | None = None,
    **metadata: Any,
) -> ModelCard:
    """Build the card of a model.

    Args:
        config: Config of the model.
        name: Hub name of the model, or its folder.
        training: Facts about its training.
        title: Name of the model. Defaults to the last part of its hub name.
        metadata: Metadata to add or to replace: ``language``, ``license``, ``tags``, ….

    Returns:
        The card: metadata in the form that the hub reads, and text.
    """
    training = training or TrainingFacts()
    encoder = encoder_name(config)
    encoder_metadata = encoder_card(config)
    title = title or (f"Multi-task model on {encoder}" if name == HERE else name.split("/")[-1])
    header = card_metadata(config, title, training, encoder_metadata, metadata)
    sections = [
        f"# {escape_markdown(title)}",
        f"One pass of one encoder, {escape_markdown(encoder)}, answers {len(config.tasks)} tasks. It was made with "
        f"`hf_multitask`. Sentence vectors are pooled by `{config.pooling}`.",
        _table(["Task", "Type", "Labels"], [_task_row(task) for task in config.tasks]),
        _usage(name, next(iter(training.examples), _EXAMPLE)),
        _data(training),
        _folds(training.folds),
        "" if training.folds and not training.metrics else _scores(training.metrics),
        _ingredients(training.ingredients),
        _stages(training.stages),
        f"## License\n\n{_license(header.license, encoder_metadata, encoder)}",
    ]
    text = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text}\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose cells are shown as they are."""
    first, *others = ([escape_markdown(cell) for cell in row] for row in [header, *rows])
    return "\n".join(f"| {' | '.join(line)} |" for line in [first, ["---"] * len(header), *others])


def _task_row(task: TaskConfig) -> list[str]:
    labels = task.labels or []
    shown = ", ".join(labels[:MAX_LABELS_SHOWN]) + (" …" if len(labels) > MAX_LABELS_SHOWN else "")
    return [task.name, task.problem_type or task.type, f"{len(labels)}: {shown}" if labels else "a number"]


def _usage(name: str, example: str | Mapping[str, str]) -> str:
    model, text = (json.dumps(value, ensure_ascii=False) for value in (name, example))
    comment = "  # the folder of this card" if name == HERE else ""
    return f"""## Use

```python
import hf_multitask
from transformers import pipeline

pipe = pipeline("{PIPELINE_NAME}", model={model}){comment}
print(pipe({text}))
```

Without `hf_multitask` the model's own code does the same:

```python
from transformers import pipeline

pipe = pipeline("{PIPELINE_NAME}", model={model}, trust_remote_code=True){comment}
print(pipe({text}))
```"""


def _data(training: TrainingFacts) -> str:
    splits = list(dict.fromkeys([*training.sources, *training.rows]))
    if not splits:
        return ""
    rows = [
        [
            split,
            ", ".join(training.sources.get(split, [])) or "not known",
            f"{training.rows[split]:,}" if split in training.rows else "not counted",
        ]
        for split in splits
    ]
    return f"## Data\n\n{_table(['Split', 'From', 'Rows'], rows)}"


def _scores(metrics: Mapping[str, Mapping[str, float]]) -> str:
    if not metrics:
        return "## Scores\n\nNone were measured."
    names = dict.fromkeys(name for scores in metrics.values() for name in scores)
    rows = [
        [name, *(_number(scores[name]) if name in scores else "" for scores in metrics.values())] for name in names
    ]
    return f"## Scores\n\n{_table(['Metric', *metrics], rows)}"


def _folds(table: Sequence[Sequence[str]]) -> str:
    if not table:
        return ""
    header, *rows = table
    about = "Each fold was scored by a model of the other folds. This model was trained on all rows."
    return f"## Cross-validation\n\n{about}\n\n{_table(header, rows)}"


def _ingredients(ingredients: Sequence[Ingredient]) -> str:
    """Return a table of the models whose weights were averaged, without the folders of their names."""
    if not ingredients:
        return ""
    metric = next((item.score[0] for item in ingredients if item.score is not None), "score")
    rows = [
        [
            Path(item.name).name if Path(item.name).is_dir() else item.name,
            "yes" if item.is_used else "no",
            "not measured" if item.score is None else f"{item.score[1]:.4f}",
        ]
        for item in ingredients
    ]
    return (
        "## Average\n\nThe weights are the mean of the weights of several models (Wortsman et al. 2022).\n\n"
        f"{_table(['Model', 'Part of the average', metric], rows)}"
    )


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the freezing stages, with one column per stage."""
    if not stages:
        return ""
    rows = [
        ["trains", *(", ".join(layer_ranges(stage["trained_groups"])) or "nothing" for stage in stages)],
        ["share of the weights", *(f"{stage['trainable_share']:.1%}" for stage in stages)],
        ["begins with", *(stage["reason"] for stage in stages)],
        ["steps", *(f"{stage['steps']:,}" for stage in stages)],
        ["epochs", *(f"{stage['epochs']:g}" for stage in stages)],
    ]
    for key, prefix in (("train_losses", "mean training"), ("best", "best")):
        for name in dict.fromkeys(name for stage in stages for name in stage[key]):
            values = (f"{stage[key][name]:.4f}" if name in stage[key] else "" for stage in stages)
            rows.append([f"{prefix} {name}", *values])
    header = ["Stage", *(stage["name"] for stage in stages)]
    return (
        "## Freezing\n\nTrainable layers and the best value of each metric on validation, per stage.\n\n"
        f"{_table(header, rows)}"
    )


def _license(license_name: str | None, encoder_metadata: Mapping[str, Any], encoder: str) -> str:
    encoder_license, encoder = encoder_metadata.get("license"), escape_markdown(encoder)
    of_encoder = (
        f"The encoder {encoder} is under {_code(encoder_license)}, according to its own card."
        if encoder_license
        else f"The license of the encoder {encoder} is not known: no card of the encoder that names it was found."
    )
    of_model = (
        f"This model is under {_code(license_name)}. " if license_name and license_name != encoder_license else ""
    )
    return of_model + of_encoder


def _code(text: object) -> str:
    """Return a text as code, which a backtick would end."""
    return f"`{' '.join(str(text).replace('`', '').split())}`"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
