"""Entry point of the probe: `probe_layers`."""

import logging
import time
from dataclasses import replace

import torch
from torch import nn

from ..data import DataConfig, MultiTaskDataCollator
from ..models import MultiTaskModel, TaskConfig
from ..models.encoder_layers import probe_inputs
from ..models.layer_groups import EMBEDDINGS, ENCODER
from ..runs.build import RunParts, load_parts
from ..runs.config import RunConfig
from ..training.shared_rows import labeled_rows
from .gradients import MAX_ROWS, gradient_ratios
from .heads import cross_validate_heads, fit_heads, linear_task, score_heads, score_name
from .layer_probe import LayerProbe, TaskProbe
from .rows import ProbeRows, choose_rows
from .states import collect_states

logger = logging.getLogger(__name__)

MIN_ROWS = 2


def probe_layers(config: RunConfig, rows: int = 1000) -> LayerProbe:
    """Measure what linear heads can read at each depth of an encoder, and where gradients are large, without training.

    Some training rows run through the encoder once. A linear head per task is trained on the states of each depth and
    scored on held-out rows: validation or, if that does not have labels of each task, each fifth of the training rows
    by heads of the others. Then the gradients of a few batches are compared with the weights. What the config says
    about heads, LoRA, freezing, teachers and the contrastive warm-up does not matter; nothing is written.

    Args:
        config: The config. Its seed draws the rows.
        rows: Maximum number of training rows. At most 500 validation rows are scored.

    Returns:
        The scores and gradients.

    Raises:
        ValueError: If the config or the data is invalid, ``rows`` is below 2, or a task has too few labeled rows.
    """
    if rows < MIN_ROWS:
        raise ValueError(f"rows must be at least {MIN_ROWS}, one to train heads and one to score them; found {rows}.")
    if config.lora is not None:
        logger.info("lora is not probed: adapters are new, and change no states before they train.")
    arguments = config.training_arguments()
    parts = load_parts(_as_probed(config))
    model, tasks = parts.model, [linear_task(task) for task in parts.data.tasks]
    # transformers wraps `to` in a way that loses the type of its receiver.
    model.to(arguments.device).eval()  # type: ignore[arg-type]
    depths = _depths(model)
    chosen = choose_rows(
        parts.data.first_training, rows, 4 * len(depths) * model.encoder.config.hidden_size, arguments.seed
    )
    start = time.perf_counter()
    probes = _probe_tasks(parts, tasks, chosen, arguments.seed)
    return LayerProbe(
        encoder=config.encoder,
        depths=depths,
        tasks=probes,
        held_out=chosen.source,
        seed=arguments.seed,
        seconds=time.perf_counter() - start,
    )


def _as_probed(config: RunConfig) -> RunConfig:
    """Return a config without what a probe leaves out. Of a word, one subword counts."""
    configs = [replace(data, label_subwords=_one_subword(data)) for data in config.data_configs]
    data = configs[0] if isinstance(config.data, DataConfig) else configs
    return replace(config, data=data, lora=None, distill=None, contrastive=None, freeze="none")


def _one_subword(data: DataConfig) -> str:
    return "last" if data.label_subwords == "last" else "first"


def _depths(model: MultiTaskModel) -> list[str]:
    """Return the name of what computes the states of each depth."""
    with torch.no_grad():
        states = model.encoder(**probe_inputs(model.encoder), output_hidden_states=True).hidden_states
    return [EMBEDDINGS, *(f"{ENCODER}.{i}" for i in range(len(states) - 1))]


def _probe_tasks(parts: RunParts, tasks: list[TaskConfig], rows: ProbeRows, seed: int) -> list[TaskProbe]:
    model, collator = parts.model, MultiTaskDataCollator(parts.tokenizer, tasks)
    training = collect_states(model, rows.training, collator, tasks)
    labeled = scored = labeled_rows(rows.training, tasks)
    held_out = None
    if rows.held_out is not None:
        held_out = collect_states(model, rows.held_out, collator, tasks)
        scored = labeled_rows(rows.held_out, tasks)
    heads = {task.name: fit_heads(task, training, seed) for task in tasks}
    # The gradients are those of the heads that a training starts from once they have warmed up.
    model.heads = nn.ModuleDict({name: by_depth[-1].to(model.device) for name, by_depth in heads.items()})
    model.config.tasks = tasks
    probes = []
    for task in tasks:
        some = rows.training.__getitems__(labeled[task.name][:MAX_ROWS].tolist())
        ratios = gradient_ratios(model, some, collator, task)
        if held_out is None:
            scores = cross_validate_heads(task, training, rows.folds, seed)
        else:
            scores = score_heads(task, heads[task.name], held_out)
        probes.append(
            TaskProbe(
                name=task.name,
                kind=task.type if task.is_token_task else str(task.problem_type),
                metric=score_name(task),
                training_rows=len(labeled[task.name]),
                held_out_rows=len(scored[task.name]),
                scores=scores,
                gradient_ratios=ratios,
            )
        )
    return probes
