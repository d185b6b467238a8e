"""Presets: schedules by name, built for a model."""

import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ..models.field_types import checked_value, describe_value
from ..models.layer_groups import EMBEDDINGS, HEAD, NAME, NORM, LayerGroups, name_patterns
from ..models.messages import unknown_name_message
from .converged import Converged
from .schedule import FreezeSchedule, encoder_is_divided
from .stage import FreezeStage, Until

# Howard and Ruder 2018, section 3.2: each layer has the rate of the layer above it divided by 2.6.
ULMFIT_LR_DECAY = 1 / 2.6
# Patterns of the names of weights. Names of normalization layers are LayerNorm, layer_norm, attn_norm, final_norm, ….
BIASES, NORMS = "*.bias", "*[Nn]orm*"


SCHEDULE_SUFFIXES = (".yaml", ".yml", ".json")
# Values that `build_schedule` accepts.
FreezeSpec: TypeAlias = FreezeSchedule | str | Path | Sequence[str] | Mapping[str, Any]


def build_schedule(
    spec: FreezeSpec,
    groups: LayerGroups,
    num_train_epochs: float,
    metric: str | None = None,
) -> FreezeSchedule:
    """Build a schedule from a value of ``freeze`` in a config, or of ``freeze_schedule`` in Python.

    Args:
        spec: One of: a schedule; the name of a preset (``"none"``, ``"all"``, ``"encoder"``, ``"head:<task>"``,
            ``"encoder+head:<task>"``, ``"heads-then-all"``, ``"three-stage"``, ``"gradual"``, ``"top:<k>"``,
            ``"progressive"``, ``"converged"``, ``"bitfit"``, ``"layernorm"``); a YAML or JSON file; selectors of
            groups to freeze for the whole run; a mapping with ``stages``, or with ``preset`` and its options, and
            ``protect``.
        groups: The model's groups.
        num_train_epochs: Length of the run, which presets divide into stages.
        metric: Metric that `progressive` and `converged` follow. Defaults to the validation loss.

    Returns:
        The schedule, checked against the groups.

    Raises:
        ValueError: If the value is not a schedule, or the schedule does not fit the model.
        FileNotFoundError: If it names a file that does not exist.
    """
    schedule = _build(spec, groups, num_train_epochs, metric and metric.removeprefix("eval_"))
    schedule.check(groups.divide(schedule.name_patterns))
    return schedule


def _build(spec: object, groups: LayerGroups, num_train_epochs: float, metric: str | None) -> FreezeSchedule:
    if isinstance(spec, FreezeSchedule):
        return spec
    if isinstance(spec, Path) or (isinstance(spec, str) and spec.endswith(SCHEDULE_SUFFIXES)):
        return FreezeSchedule.from_file(spec)
    if isinstance(spec, str):
        return _from_name(spec, groups, num_train_epochs, metric)
    if isinstance(spec, Sequence):
        return _frozen("static", list(spec), groups)
    if not isinstance(spec, Mapping):
        raise ValueError(f"freeze: expected a preset, groups, stages or a file of them, found {describe_value(spec)}.")
    if "preset" not in spec:
        return FreezeSchedule.from_dict(spec)
    options = {key: value for key, value in spec.items() if key not in ("preset", "protect")}
    schedule = _from_name(str(spec["preset"]), groups, num_train_epochs, metric, options)
    protection = FreezeSchedule.from_dict({"stages": [{}], "protect": spec.get("protect")}).protect
    return replace(schedule, protect=protection)


def _from_name(
    name: str,
    groups: LayerGroups,
    num_train_epochs: float,
    metric: str | None,
    options: Mapping[str, object] | None = None,
) -> FreezeSchedule:
    given = dict(options or {})
    if name in PRESETS:
        preset = PRESETS[name]
        context = {"groups": groups, "num_train_epochs": num_train_epochs, "metric": metric}
        accepted = inspect.signature(preset).parameters
        allowed = [key for key in accepted if key not in context or key == "metric"]
        for key in given:
            if not allowed:
                raise ValueError(f"preset {name!r} has no options, found {', '.join(given)}.")
            if key not in allowed:
                raise ValueError(f"preset {name!r}: {unknown_name_message('option', key, allowed)}")
        hints = {key: item.annotation for key, item in accepted.items()}
        given = {key: checked_value(value, hints[key], f"preset {name!r}: {key}") for key, value in given.items()}
        return preset(**{**{key: value for key, value in context.items() if key in accepted}, **given})
    if given:
        raise ValueError(f"preset {name!r}: {unknown_name_message('preset with options', name, PRESETS)}")
    if re.fullmatch(r"top:\d+", name):
        return _top(int(name.removeprefix("top:")), groups)
    # head:<task> is the group head.<task>; a plus joins several names.
    selectors = [part.replace("head:", HEAD, 1) for part in name.split("+")]
    try:
        return _frozen(name, selectors, groups)
    except ValueError as error:
        names = [*PRESETS, "head:<task>", "encoder+head:<task>", "top:<k>"]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"freeze: {name!r} is neither a preset ({', '.join(names)}) nor a group.{hint} {error}"
        ) from error


def _frozen(name: str, selectors: list[str], groups: LayerGroups) -> FreezeSchedule:
    """Freeze some groups for the whole run."""
    groups = groups.divide(name_patterns(selectors))
    if not set(groups.select("all")) - set(groups.select(selectors)):
        return _baseline()
    return FreezeSchedule([FreezeStage(name, freeze=selectors)])


def _none() -> FreezeSchedule:
    """Train everything."""
    return FreezeSchedule([FreezeStage("all")])


def _baseline() -> FreezeSchedule:
    """Train nothing, to score the model as it is."""
    return FreezeSchedule([FreezeStage("baseline", train="none", baseline=True)])


def _encoder() -> FreezeSchedule:
    """Train the heads on a frozen encoder."""
    return FreezeSchedule([FreezeStage("heads", train="heads")])


def _heads_then_all(num_train_epochs: float, epochs: float | None = None) -> FreezeSchedule:
    """Train the heads for ``epochs`` (by default a third of the run), then everything."""
    epochs = num_train_epochs / 3 if epochs is None else epochs
    return FreezeSchedule([FreezeStage("heads", train="heads", epochs=epochs), FreezeStage("all")])


def _three_stage(
    groups: LayerGroups,
    num_train_epochs: float,
    epochs: float | None = None,
    keep_embeddings_frozen: bool = False,
) -> FreezeSchedule:
    """Train the heads, then also the upper third of the layers, each for ``epochs``, then everything."""
    epochs = num_train_epochs / 3 if epochs is None else epochs
    layers = _layers(groups, "three-stage")
    upper = _upper(groups, math.ceil(len(layers) / 3))
    return FreezeSchedule(
        [
            FreezeStage("heads", train="heads", epochs=epochs),
            FreezeStage("upper third", train=upper, epochs=epochs),
            FreezeStage("all", freeze=EMBEDDINGS if keep_embeddings_frozen else "none"),
        ]
    )


def _gradual(groups: LayerGroups, epochs: float = 1, layer_lr_decay: float | None = ULMFIT_LR_DECAY) -> FreezeSchedule:
    """Unfreeze one more group from the top every ``epochs``, with lower learning rates for lower layers.

    Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", sections 3.2 and 3.3.
    """
    steps = _from_the_top(groups, "gradual")
    stages = [
        FreezeStage(name, train=train, epochs=epochs, layer_lr_decay=layer_lr_decay) for name, train in steps[:-1]
    ]
    name, train = steps[-1]
    return FreezeSchedule([*stages, FreezeStage(name, train=train, layer_lr_decay=layer_lr_decay)])


def _progressive(
    groups: LayerGroups,
    metric: str | None = None,
    patience: int = 1,
    min_delta: float = 0.0,
    max_epochs: float | None = None,
) -> FreezeSchedule:
    """Unfreeze one more group from the top each time the metric stops improving without overfitting."""
    until = Until(metric or "loss", patience, min_delta, max_epochs, watch_gap=True)
    steps = _from_the_top(groups, "progressive")
    stages = [FreezeStage(name, train=train, until=until) for name, train in steps[:-1]]
    name, train = steps[-1]
    return FreezeSchedule([*stages, FreezeStage(name, train=train)])


def _converged(
    groups: LayerGroups,
    metric: str | None = None,
    aggressiveness: float = Converged.aggressiveness,
    keep: float = Converged.keep,
    watch: str | list[str] | None = None,
    min_delta: float = Converged.min_delta,
    patience: int = Converged.patience,
) -> FreezeSchedule:
    """Train everything, and freeze the layers that have stopped learning, from the bottom up."""
    _layers(groups, "converged")
    watched = (metric or "loss") if watch is None else watch
    options = Converged(aggressiveness, keep, watched, min_delta, patience)
    return FreezeSchedule([FreezeStage("converged", until=Until(converged=options))])


def _bitfit(groups: LayerGroups) -> FreezeSchedule:
    """Train the heads and the biases of the encoder (Ben Zaken et al. 2022, "BitFit")."""
    return FreezeSchedule([FreezeStage("biases", train=["heads", _in_encoder(BIASES, groups)])])


def _layernorm(groups: LayerGroups) -> FreezeSchedule:
    """Train the heads and the normalization layers of the encoder."""
    return FreezeSchedule([FreezeStage("norms", train=["heads", _in_encoder(NORMS, groups)])])


def _in_encoder(pattern: str, groups: LayerGroups) -> str:
    """Return a selector of weights of the encoder by a pattern of their names."""
    first_parts = {name.split(".")[0] for group in groups if not group.is_head for name in group.parameters}
    # A model that is an encoder itself has no part for it.
    return f"{NAME}{first_parts.pop()}.{pattern}" if len(first_parts) == 1 else f"{NAME}{pattern}"


def _top(k: int, groups: LayerGroups) -> FreezeSchedule:
    """Train the heads and the upper k layers."""
    layers = _layers(groups, f"top:{k}")
    if not 1 <= k <= len(layers):
        raise ValueError(
            f"preset 'top:{k}': the encoder has {len(layers)} layers{' with adapters' if groups.adapters else ''}; "
            f"allowed: top:1 to top:{len(layers)}."
        )
    return FreezeSchedule([FreezeStage(f"top {k}", train=_upper(groups, k))])


PRESETS: dict[str, Callable[..., FreezeSchedule]] = {
    "none": _none,
    "all": _baseline,
    "encoder": _encoder,
    "heads-then-all": _heads_then_all,
    "three-stage": _three_stage,
    "gradual": _gradual,
    "progressive": _progressive,
    "converged": _converged,
    "bitfit": _bitfit,
    "layernorm": _layernorm,
}


def _layers(groups: LayerGroups, preset: str) -> list[str]:
    """Return what a preset unfreezes one by one: groups of adapters, or without them the layers not frozen before."""
    if not encoder_is_divided(groups):
        raise ValueError(
            f"preset {preset!r}: this encoder shares its layers or has no list of layers, so they cannot be frozen "
            "one by one. Allowed: 'none', 'all', 'encoder', 'head:<task>', 'heads-then-all'."
        )
    return groups.adapters or _free(groups)


def _free(groups: LayerGroups) -> list[str]:
    """Return the layers of which some weights were not frozen before."""
    free = {group.layer for group in groups if not group.held}
    return [layer for layer in groups.layers if layer in free]


def _upper(groups: LayerGroups, k: int) -> list[str]:
    """Return selectors of the heads, the upper k layers and the norm after them; with adapters, of those instead."""
    if groups.adapters:
        return ["heads", *groups.adapters[-k:]]
    free = _free(groups)
    norm = [group.name for group in groups if group.name == NORM and not group.held]
    return ["heads", *norm, *([f"encoder[-{k}:]"] if free == groups.layers else free[-k:])]


def _from_the_top(groups: LayerGroups, preset: str) -> list[tuple[str, list[str] | str]]:
    """Return the name and selectors of each step from only the heads down to everything."""
    layers = _layers(groups, preset)
    steps = [(layers[-k], _upper(groups, k)) for k in range(1, len(layers) + 1)]
    rest: list[tuple[str, str]] = [] if groups.adapters else [(EMBEDDINGS, "all")]
    return [("heads", "heads"), *steps, *rest]
