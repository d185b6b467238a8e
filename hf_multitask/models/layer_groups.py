"""Layer groups that can be frozen, derived from the structure of the model instead of a table of names."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from transformers import PreTrainedModel

from .encoder_layers import find_layers, own_weights, trace_layers
from .messages import unknown_name_message
from .table_repr import ReprTable, ShownAsTable

EMBEDDINGS = "embeddings"
ENCODER = "encoder"
NORM = "encoder.norm"
HEAD = "head."
# Selects weights by a pattern of their names. A group of which it selects a part is divided: "encoder.0" keeps the
# other weights, and "encoder.0:*.bias" has those that the pattern matches.
NAME = "name:"
_PART = ":"

# Parts that wrappers add to the names of weights: torch.compile, FSDP1, activation checkpointing.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_SLICE = re.compile(r"encoder\[(-?\d+)?:(-?\d+)?\]")


@dataclass
class LayerGroup:
    """Weights that are frozen and unfrozen together.

    Args:
        name: ``embeddings``, ``encoder.0`` … ``encoder.N-1``, ``encoder.norm`` or ``head.<task>``; ``encoder`` for an
            encoder that cannot be divided. The weights that a pattern selects have a group of their own, such as
            ``encoder.0:*.bias``.
        parameters: Weights by their name in the model.
        patterns: Patterns of `LayerGroups.divide` that match the names of these weights.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    patterns: tuple[str, ...] = ()

    @property
    def layer(self) -> str:
        """Name of the group without the patterns that it was divided by."""
        return layer_of(self.name)

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def trainable(self) -> bool:
        """Whether any of the weights is trainable."""
        return any(parameter.requires_grad for parameter in self.parameters.values())

    @property
    def is_head(self) -> bool:
        """Whether the group is a head."""
        return self.name.startswith(HEAD)


class LayerGroups(ShownAsTable, list[LayerGroup]):
    """Layer groups of a model, from the bottom up; printed as a table."""

    def repr_tables(self) -> list[ReprTable]:
        """Return a table with consecutive layers of one size on one line."""
        rows: list[tuple[list[str], int, bool]] = []
        for group in self:
            kind = (group.num_parameters, group.trainable)
            if rows and rows[-1][1:] == kind and not group.is_head:
                rows[-1][0].append(group.name)
            else:
                rows.append(([group.name], *kind))
        cells = [
            [", ".join(layer_ranges(names)), f"{len(names) * size:,}", "yes" if trainable else "no"]
            for names, size, trainable in rows
        ]
        return [
            ReprTable(f"{len(self)} layer groups, from the bottom up", ("groups", "parameters", "trainable"), cells)
        ]

    def __str__(self) -> str:
        total = sum(group.num_parameters for group in self)
        width = max(len("group"), *(len(group.name) for group in self))
        lines = [f"{'group':<{width}}  {'parameters':>12}  {'share':>6}  trainable"]
        for group in self:
            share = group.num_parameters / total
            trainable = "yes" if group.trainable else "no"
            lines.append(f"{group.name:<{width}}  {group.num_parameters:>12,}  {share:>6.1%}  {trainable}")
        return "\n".join(lines)

    @property
    def layers(self) -> list[str]:
        """Names of the encoder's layers, from the bottom up; ``["encoder"]`` if it cannot be divided."""
        names = [group.layer for group in self if not group.is_head and group.layer not in (EMBEDDINGS, NORM)]
        return list(dict.fromkeys(names))

    @property
    def heads(self) -> list[str]:
        """Names of the heads."""
        return list(dict.fromkeys(group.layer for group in self if group.is_head))

    def divide(self, patterns: Sequence[str]) -> "LayerGroups":
        """Give the weights that patterns select groups of their own, so that they train and freeze by themselves.

        Args:
            patterns: Patterns of the names of weights, as in a shell: ``*.bias``.

        Returns:
            The groups. The weights of a group that different patterns match are in different groups.

        Raises:
            ValueError: If a pattern matches no weight.
        """
        names = [name for group in self for name in group.parameters]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"{NAME}{pattern} matches no weight of the model; expected a pattern such as '*.bias' or "
                    f"'*.{names[0].split('.', 1)[-1]}'. {unknown_name_message('weight', pattern, names)}"
                )
        divided = LayerGroups()
        for group in self:
            parts: dict[tuple[str, ...], dict[str, nn.Parameter]] = {}
            for name, weight in group.parameters.items():
                new = (pattern for pattern in patterns if pattern not in group.patterns and fnmatchcase(name, pattern))
                parts.setdefault((*group.patterns, *new), {})[name] = weight
            # A head that has no weights yet, as in a plan, remains a group.
            for matched in sorted(parts or {group.patterns: {}}):
                name = _PART.join([group.layer, "+".join(matched)]) if matched else group.layer
                divided.append(LayerGroup(name, parts.get(matched, {}), matched))
        return divided

    def undivided(self) -> "LayerGroups":
        """Return one group per layer and head, as before `divide`."""
        whole: dict[str, LayerGroup] = {}
        for group in self:
            whole.setdefault(group.layer, LayerGroup(group.layer, {})).parameters.update(group.parameters)
        return LayerGroups(whole.values())

    def select(self, selectors: str | Iterable[str]) -> list[str]:
        """Resolve selectors to names of groups.

        Args:
            selectors: One or several of ``"all"``, ``"none"``, ``"heads"``, ``"encoder"``, the name of a group, a
                slice of the layers such as ``"encoder[-3:]"``, and a pattern of names that the groups are divided by,
                such as ``"name:*.bias"``.

        Returns:
            Names of groups, from the bottom up.

        Raises:
            ValueError: If a selector is unknown or selects no layer. The message names the available groups.
        """
        chosen: set[str] = set()
        for selector in [selectors] if isinstance(selectors, str) else selectors:
            chosen.update(self._select_one(selector))
        return [group.name for group in self if group.name in chosen]

    def parameters_of(self, names: Iterable[str]) -> dict[str, nn.Parameter]:
        """Return the weights of some groups, by their name in the model and from the bottom up."""
        chosen = set(names)
        return {name: weight for group in self if group.name in chosen for name, weight in group.parameters.items()}

    def bind(self, model: nn.Module) -> "LayerGroups":
        """Return the same groups with the current weights of a model.

        A wrapper may replace the weights (FSDP) or add a part to their names (DDP, ``torch.compile``), and a rebuilt
        model has new weights.

        Args:
            model: Model, wrapped or not.

        Returns:
            The groups.

        Raises:
            ValueError: If a weight is missing, such as when FSDP has flattened the weights.
        """
        current = {_without_wrappers(name): parameter for name, parameter in model.named_parameters()}
        if missing := [name for group in self for name in group.parameters if name not in current]:
            raise ValueError(f"the model has no weight {missing[0]!r} now; found {', '.join(list(current)[:3])}, ….")
        return LayerGroups(
            LayerGroup(group.name, {name: current[name] for name in group.parameters}, group.patterns)
            for group in self
        )

    def _select_one(self, selector: str) -> list[str]:
        layers = list(dict.fromkeys(group.layer for group in self))
        encoder = [layer for layer in layers if layer not in self.heads]
        several = {"all": layers, "none": [], "heads": self.heads, ENCODER: encoder}
        if isinstance(selector, str) and selector.startswith(NAME):
            pattern = selector.removeprefix(NAME)
            return [group.name for group in self if pattern in group.patterns]
        if selector in several:
            return self._parts_of(several[selector])
        if selector in layers:
            return self._parts_of([selector])
        bounds = _SLICE.fullmatch(selector) if isinstance(selector, str) else None
        if encoder == [ENCODER] and (bounds or selector == EMBEDDINGS or str(selector).startswith("encoder.")):
            raise ValueError(
                f"group {selector!r}: the layers of this encoder share weights or do not run one after the other, so "
                "that they cannot be frozen one by one. Allowed: 'encoder', 'heads', 'all', 'none' and the heads."
            )
        if bounds:
            if selected := self.layers[slice(*(int(bound) if bound else None for bound in bounds.groups()))]:
                return self._parts_of(selected)
            raise ValueError(f"group {selector!r} selects none of the {len(self.layers)} layers of the encoder.")
        raise ValueError(unknown_name_message("group", selector, [*several, *layers, "encoder[-3:]", f"{NAME}*.bias"]))

    def _parts_of(self, layers: Sequence[str]) -> list[str]:
        return [group.name for group in self if group.layer in layers]


def layer_of(name: str) -> str:
    """Return the name of a group without the patterns that it was divided by."""
    return name.partition(_PART)[0]


def name_patterns(selectors: str | Iterable[str]) -> list[str]:
    """Return the patterns of names among selectors, without ``name:``."""
    given = [selectors] if isinstance(selectors, str) else selectors
    found = (selector for selector in given if isinstance(selector, str) and selector.startswith(NAME))
    return list(dict.fromkeys(selector.removeprefix(NAME) for selector in found))


def layer_ranges(names: Iterable[str]) -> list[str]:
    """Return the names of groups with consecutive layers merged: ``encoder.2-5``, ``encoder.0-5:*.bias``."""
    by_part: dict[str, list[str]] = {}
    for name in names:
        layer = layer_of(name)
        by_part.setdefault(name.removeprefix(layer), []).append(layer)
    return [f"{merged}{part}" for part, layers in by_part.items() for merged in _merge_layers(layers)]


def _merge_layers(names: Iterable[str]) -> list[str]:
    ranges: list[str] = []
    first = last = None
    for name in [*names, ""]:
        number = int(name.removeprefix("encoder.")) if re.fullmatch(r"encoder\.\d+", name) else None
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None:
            ranges.append(f"encoder.{first}" if first == last else f"encoder.{first}-{last}")
        first = last = number
        if number is None and name:
            ranges.append(name)
    return ranges


def layer_groups(model: PreTrainedModel) -> LayerGroups:
    """Divide a model into layer groups, from the bottom up.

    Weights outside the layers belong to ``embeddings``, and so do weights that several layers share. Modules that
    first run after the last layer, a pooler included, belong to ``encoder.norm``. An encoder whose layers share their
    weights or do not run one after the other is one group, ``encoder``. Everything outside the encoder is a head: each
    head of a `MultiTaskModel`, or each module that a stock model such as ``BertForSequenceClassification`` adds to its
    base model.

    Args:
        model: Model without a wrapper.

    Returns:
        The groups.

    Raises:
        ValueError: If the model is not a transformers model with one encoder.
    """
    if not isinstance(model, PreTrainedModel) or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"layer groups: expected a transformers model with one encoder, found {type(model).__name__}."
        )
    encoder = model.base_model
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = LayerGroups(
        LayerGroup(name, {names[parameter]: parameter for parameter in parameters})
        for name, parameters in _encoder_groups(encoder)
    )
    in_encoder = set(encoder.parameters())
    heads: dict[str, dict[str, nn.Parameter]] = {}
    for parameter, name in names.items():
        if parameter not in in_encoder:
            heads.setdefault(name.removeprefix("heads.").split(".")[0], {})[name] = parameter
    groups.extend(LayerGroup(f"{HEAD}{name}", parameters) for name, parameters in heads.items())
    return groups


def _encoder_groups(encoder: nn.Module) -> Iterator[tuple[str, list[nn.Parameter]]]:
    layers = find_layers(encoder)
    if layers is None:
        yield ENCODER, list(encoder.parameters())
        return
    owners: dict[nn.Parameter, set[str]] = {}
    for i, layer in enumerate(layers):
        for parameter in layer.parameters():
            owners.setdefault(parameter, set()).add(f"{ENCODER}.{i}")
    # The place of a module in the code does not show this: DeBERTa's norm after the layers is part of its embeddings.
    above = own_weights(trace_layers(encoder, layers).after)
    group_of = {}
    for parameter in encoder.parameters():
        users = owners.get(parameter, {NORM} if parameter in above else {EMBEDDINGS})
        group_of[parameter] = EMBEDDINGS if len(users) > 1 else next(iter(users))
    for group in [EMBEDDINGS, *(f"{ENCODER}.{i}" for i in range(len(layers))), NORM]:
        if parameters := [parameter for parameter, name in group_of.items() if name == group]:
            yield group, parameters


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.removeprefix("module.").split(".") if part not in _WRAPPERS)
