"""The model card: what a model does, what it was trained on and how, how well, and how to use it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCard

from .configuration_multitask import PIPELINE_NAME, MultiTaskConfig
from .hub_card_metadata import TrainingFacts, card_metadata, encoder_card, encoder_name
from .layer_groups import layer_ranges
from .tasks import TaskConfig

CARD_NAME = "README.md"
HERE = "."  # a folder's own card, read where the folder is
MAX_LABELS_SHOWN = 30
_EXAMPLE = "A sentence to analyse."


def build_model_card(
    config: MultiTaskConfig,
    name: str = HERE,
    training: TrainingFacts | None = None,
    title: str | None = None,
    **metadata: Any,
) -> ModelCard:
    """Write the card of a model.

    Args:
        config: Config of the model.
        name: Hub name of the model, or its folder.
        training: What is known of its training.
        title: Name of the model, the last part of its hub name where None.
        metadata: Further metadata, or other than what is found: ``language``, ``license``, ``tags``, ….

    Returns:
        The card: metadata as the hub reads them, and text.
    """
    training = training or TrainingFacts()
    encoder = encoder_name(config)
    found = encoder_card(config)
    title = title or (f"Multi-task model on {encoder}" if name == HERE else name.split("/")[-1])
    header = card_metadata(config, title, training, found, metadata)
    sections = [
        f"# {title}",
        f"One pass of one encoder, {encoder}, answers {len(config.tasks)} tasks. It was made with `hf_multitask`. "
        f"Sentence vectors are pooled by `{config.pooling}`.",
        _table(["Task", "Type", "Labels"], [_task_row(task) for task in config.tasks]),
        _usage(name, next(iter(training.examples), _EXAMPLE)),
        _data(training),
        _scores(training.metrics),
        _stages(training.stages),
        f"## Licence\n\n{_licence(header.license, found, encoder)}",
    ]
    text = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text}\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _task_row(task: TaskConfig) -> list[str]:
    labels = task.labels or []
    shown = ", ".join(labels[:MAX_LABELS_SHOWN]) + (" …" if len(labels) > MAX_LABELS_SHOWN else "")
    return [task.name, task.problem_type or task.type, f"{len(labels)}: {shown}" if labels else "a number"]


def _usage(name: str, example: str | Mapping[str, str]) -> str:
    model, given = (json.dumps(value, ensure_ascii=False) for value in (name, example))
    where = "  # the folder of this card" if name == HERE else ""
    return f"""## Use

```python
import hf_multitask
from transformers import pipeline

pipe = pipeline("{PIPELINE_NAME}", model={model}){where}
print(pipe({given}))
```

Without `hf_multitask` the model's own code does the same:

```python
from transformers import pipeline

pipe = pipeline("{PIPELINE_NAME}", model={model}, trust_remote_code=True){where}
print(pipe({given}))
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
        [name, *(f"{scores[name]:.4f}" if name in scores else "" for scores in metrics.values())] for name in names
    ]
    return f"## Scores\n\n{_table(['Metric', *metrics], rows)}"


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """Write what each stage of freezing gave, with a column for each."""
    if not stages:
        return ""
    rows = [
        ["trains", *(", ".join(layer_ranges(stage["trained_groups"])) or "nothing" for stage in stages)],
        ["share of the weights", *(f"{stage['trainable_share']:.1%}" for stage in stages)],
        ["begins with", *(stage["reason"] for stage in stages)],
        ["steps", *(f"{stage['steps']:,}" for stage in stages)],
        ["epochs", *(f"{stage['epochs']:g}" for stage in stages)],
    ]
    for key, what in (("train_losses", "mean training"), ("best", "best")):
        for name in dict.fromkeys(name for stage in stages for name in stage[key]):
            values = (f"{stage[key][name]:.4f}" if name in stage[key] else "" for stage in stages)
            rows.append([f"{what} {name}", *values])
    header = ["Stage", *(stage["name"] for stage in stages)]
    return (
        "## Freezing\n\nWhat trained when, and the best value of each metric on validation in each stage.\n\n"
        f"{_table(header, rows)}"
    )


def _licence(licence: str | None, found: Mapping[str, Any], encoder: str) -> str:
    of_encoder = (
        f"The encoder {encoder} is under `{found['license']}`, as its own card says."
        if found.get("license")
        else f"The licence of the encoder {encoder} is not known: no card of its own that says it was found."
    )
    own = f"This model is under `{licence}`. " if licence and licence != found.get("license") else ""
    return own + of_encoder
