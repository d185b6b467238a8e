"""Layer groups that can be frozen, derived from the structure of the model instead of a table of names."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import nn
from transformers import PreTrainedModel

from .encoder_adapters import PEFT_PREFIX, adapter_weights, unused_weights, unwrap
from .encoder_layers import find_layers, own_weights, trace_layers
from .messages import unknown_name_message
from .table_repr import ReprTable, ShownAsTable

EMBEDDINGS = "embeddings"
ENCODER = "encoder"
NORM = "encoder.norm"
HEAD = "head."
# Private layers of tasks: "private.ner.4" is the copy of "encoder.4" that only the task ner uses.
PRIVATE = "private"
# Attribute of the model that has them, by task and index.
PRIVATE_LAYERS = "private_layers"
# Adapters of PEFT have groups apart from the weights that they adapt: "lora.0" has those of the layer "encoder.0".
LORA = "lora"
_ADAPTED = {f"{LORA}.{EMBEDDINGS}": EMBEDDINGS, f"{LORA}.norm": NORM, LORA: ENCODER}
# Selects weights by a pattern of their names. A group of which it selects a part is divided: "encoder.0" keeps the
# other weights, and "encoder.0:*.bias" has those that the pattern matches.
NAME = "name:"
_PART = ":"
# Part of a group that was frozen before the training.
_FROZEN = "frozen"

# Parts that wrappers add to the names of weights: torch.compile, FSDP1, activation checkpointing.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_SLICE = re.compile(r"(encoder|lora)\[(-?\d+)?:(-?\d+)?\]")
_NUMBERED = re.compile(r"(encoder|lora|private\.\w+)\.(\d+)")


@dataclass
class LayerGroup:
    """Weights that are frozen and unfrozen together.

    Args:
        name: ``embeddings``, ``encoder.0`` … ``encoder.N-1``, ``encoder.norm`` or ``head.<task>``; ``encoder`` for an
            encoder that cannot be divided. The adapters of a layer are ``lora.0`` … ``lora.N-1``, and the private
            layers of a task ``private.<task>.<i>``. The weights that a pattern selects have a group of their own, such
            as ``encoder.0:*.bias``.
        parameters: Weights by their name in the model.
        patterns: Patterns of `LayerGroups.divide` that match the names of these weights.
        held: Whether the weights were frozen before the training, so that ``all`` and ``heads`` leave them out.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    patterns: tuple[str, ...] = ()
    held: bool = False

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

    @property
    def is_private(self) -> bool:
        """Whether the group is a private layer of a task."""
        return is_private(self.name)

    @property
    def is_shared(self) -> bool:
        """Whether all tasks use the group: it is neither a head nor a private layer."""
        return not self.is_head and not self.is_private

    @property
    def is_adapter(self) -> bool:
        """Whether the group consists of adapters."""
        return self.layer == LORA or self.layer.startswith(f"{LORA}.")


class LayerGroups(ShownAsTable, list[LayerGroup]):
    """Layer groups of a model, from the bottom up; printed as a table."""

    def repr_tables(self) -> list[ReprTable]:
        """Return a table with consecutive layers of one size on one line."""
        rows: list[tuple[list[str], int, bool]] = []
        for group in self:
            kind = (group.num_parameters, group.trainable)
            # The layers and their adapters alternate.
            above = rows[:-3:-1] if group.is_adapter or self.adapters else rows[-1:]
            above = [row for row in above if is_private(row[0][0]) == group.is_private and not group.is_head]
            same = next((row for row in above if row[1:] == kind), None)
            if same is not None:
                same[0].append(group.name)
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
        names = [group.layer for group in self._encoder if group.layer not in (EMBEDDINGS, NORM)]
        return list(dict.fromkeys(map(layer_in_encoder, names)))

    @property
    def adapters(self) -> list[str]:
        """Names of the groups of adapters, from the bottom up."""
        return list(dict.fromkeys(group.layer for group in self if group.is_adapter))

    @property
    def _encoder(self) -> list[LayerGroup]:
        return [group for group in self if not group.is_head and not group.is_adapter]

    @property
    def heads(self) -> list[str]:
        """Names of the heads."""
        return list(dict.fromkeys(group.layer for group in self if group.is_head))

    def below_head(self, head: str) -> list[str]:
        """Return the layers that the input of a head depends on: shared ones without a copy, and its task's copies.

        Args:
            head: Name of the head's group, ``head.<task>``.
        """
        own = list(self._private.get(head.replace(HEAD, f"{PRIVATE}.", 1), []))
        copied = {layer_in_encoder(name) for name in own}
        return [group.layer for group in self if group.name in own or (group.is_shared and group.layer not in copied)]

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
                divided.append(LayerGroup(name, parts.get(matched, {}), matched, group.held))
        return divided

    def hold_frozen(self) -> "LayerGroups":
        """Return the groups in which weights that are frozen now are `LayerGroup.held`, in groups of their own.

        A schedule then trains them only where it names them.
        """
        held = LayerGroups()
        for group in self:
            frozen = {name: weight for name, weight in group.parameters.items() if not weight.requires_grad}
            if not frozen or len(frozen) == len(group.parameters):
                held.append(replace(group, held=bool(frozen)))
                continue
            trained = {name: weight for name, weight in group.parameters.items() if name not in frozen}
            patterns = (*group.patterns, _FROZEN)
            held.append(replace(group, parameters=trained))
            held.append(LayerGroup(_PART.join([group.layer, "+".join(patterns)]), frozen, patterns, held=True))
        return held

    def undivided(self) -> "LayerGroups":
        """Return one group per layer and head, as before `divide`."""
        whole: dict[str, LayerGroup] = {}
        for group in self:
            whole.setdefault(group.layer, LayerGroup(group.layer, {})).parameters.update(group.parameters)
        return LayerGroups(whole.values())

    def select(self, selectors: str | Iterable[str]) -> list[str]:
        """Resolve selectors to names of groups.

        Args:
            selectors: One or several of ``"all"``, ``"none"``, ``"heads"``, ``"encoder"``, ``"lora"``, the name of a
                group, a slice of the layers or of their adapters such as ``"encoder[-3:]"`` and ``"lora[-3:]"``, and a
                pattern of names that the groups are divided by, such as ``"name:*.bias"``. ``"all"`` and ``"heads"``
                leave out groups that are `LayerGroup.held`. ``"encoder"`` and its slices include the private layers
                in the place of these layers; ``"private"`` and ``"private.<task>"`` are only those.

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
            replace(group, parameters={name: current[name] for name in group.parameters}) for group in self
        )

    def _select_one(self, selector: str) -> list[str]:
        free = [group for group in self if not group.held]
        several = {
            "all": [group.name for group in free],
            "none": [],
            "heads": [group.name for group in free if group.is_head],
            ENCODER: [group.name for group in self._encoder],
            **({LORA: [group.name for group in self if group.is_adapter]} if self.adapters else {}),
            **self._private,
        }
        layers = list(dict.fromkeys(group.layer for group in self))
        if isinstance(selector, str) and selector.startswith(NAME):
            pattern = selector.removeprefix(NAME)
            return [group.name for group in self if pattern in group.patterns]
        if selector in several:
            return several[selector]
        if selector in layers:
            return self._parts_of([selector])
        bounds = _SLICE.fullmatch(selector) if isinstance(selector, str) else None
        if LORA in str(selector).split(".")[0].split("[") and not self.adapters:
            raise ValueError(f"group {selector!r}: the encoder has no adapters.")
        if self.layers == [ENCODER] and (bounds or selector == EMBEDDINGS or _NUMBERED.fullmatch(str(selector))):
            raise ValueError(
                f"group {selector!r}: the layers of this encoder share weights or do not run one after the other, so "
                "that they cannot be frozen one by one. Allowed: 'encoder', 'heads', 'all', 'none' and the heads."
            )
        if bounds:
            kind, start, stop = bounds.groups()
            found = self.layers[slice(*(int(bound) if bound else None for bound in (start, stop)))]
            chosen = [name.replace(ENCODER, kind, 1) for name in found]
            private = [group.layer for group in self if group.is_private and layer_in_encoder(group.layer) in chosen]
            if selected := self._parts_of([*chosen, *private]):
                return selected
            raise ValueError(
                f"group {selector!r} selects none of the {len(self.layers)} layers of the encoder"
                f"{'' if kind == ENCODER else ' with adapters: ' + ', '.join(layer_ranges(self.adapters))}."
            )
        raise ValueError(unknown_name_message("group", selector, [*several, *layers, "encoder[-3:]", f"{NAME}*.bias"]))

    @property
    def _private(self) -> dict[str, list[str]]:
        """Names of the private layers, of all tasks and by task."""
        found: dict[str, list[str]] = {}
        for group in self:
            if group.is_private:
                for selector in (PRIVATE, group.layer.rpartition(".")[0]):
                    found.setdefault(selector, []).append(group.name)
        return found

    def _parts_of(self, layers: Sequence[str]) -> list[str]:
        return [group.name for group in self if group.layer in layers]


def layer_of(name: str) -> str:
    """Return the name of a group without the patterns that it was divided by."""
    return name.partition(_PART)[0]


def is_private(name: str) -> bool:
    """Return whether a group is a private layer of a task."""
    return name.startswith(f"{PRIVATE}.")


def layer_in_encoder(name: str) -> str:
    """Return the layer that a group of adapters or a private layer is in the place of; for others, their own layer."""
    layer = layer_of(name)
    return _ADAPTED.get(layer, re.sub(rf"^(?:{LORA}|{PRIVATE}\.\w+)\.(\d+)$", rf"{ENCODER}.\1", layer))


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
    ranges: list[tuple[str, int, int]] = []
    # The range of each kind that may go on: the layers of the encoder and their adapters alternate.
    current: dict[str, int] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None:
            ranges.append((name, -1, -1))
            current = {}
            continue
        kind, number = match[1], int(match[2])
        if kind in current and ranges[current[kind]][2] + 1 == number:
            ranges[current[kind]] = (kind, ranges[current[kind]][1], number)
            continue
        current[kind] = len(ranges)
        ranges.append((kind, number, number))
    return [
        kind if first < 0 else f"{kind}.{first}" + (f"-{last}" if last > first else "") for kind, first, last in ranges
    ]


def layer_groups(model: nn.Module) -> LayerGroups:
    """Divide a model into layer groups, from the bottom up.

    Weights outside the layers belong to ``embeddings``, and so do weights that several layers share. Modules that
    first run after the last layer, a pooler included, belong to ``encoder.norm``. An encoder whose layers share their
    weights or do not run one after the other is one group, ``encoder``. The private layers of tasks follow. Everything
    else is a head: each head of a `MultiTaskModel`, or each module that a stock model such as
    ``BertForSequenceClassification`` adds to its base model. The adapters of PEFT that are active have groups of their
    own; those that are not, and weights that PEFT has replaced, never run and belong to no group.

    Args:
        model: Model without a wrapper other than PEFT's.

    Returns:
        The groups.

    Raises:
        ValueError: If the model is not a transformers model with one encoder.
    """
    model = unwrap(model)
    if not isinstance(model, PreTrainedModel) or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"layer groups: expected a transformers model with one encoder, found {type(model).__name__}."
        )
    encoder = model.base_model
    unused = unused_weights(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = LayerGroups(
        LayerGroup(name, {names[parameter]: parameter for parameter in parameters})
        for name, parameters in _encoder_groups(encoder)
    )
    in_encoder = set(encoder.parameters())
    above: dict[str, dict[str, nn.Parameter]] = {}
    for parameter, name in names.items():
        if parameter not in in_encoder and parameter not in unused:
            above.setdefault(_group_above(name), {})[name] = parameter
    found = [LayerGroup(name, parameters) for name, parameters in above.items()]
    return LayerGroups([*groups, *sorted(found, key=lambda group: group.is_head)])


def _group_above(weight: str) -> str:
    """Return the group of a weight outside the encoder."""
    parts = weight.split(".")
    if parts[0] == PRIVATE_LAYERS:
        return ".".join([PRIVATE, *parts[1:3]])
    return f"{HEAD}{weight.removeprefix('heads.').split('.')[0]}"


def _encoder_groups(encoder: nn.Module) -> Iterator[tuple[str, list[nn.Parameter]]]:
    adapters, unused = adapter_weights(encoder), unused_weights(encoder)
    weights = [parameter for parameter in encoder.parameters() if parameter not in unused]
    layers = find_layers(encoder)
    if layers is None:
        yield ENCODER, [parameter for parameter in weights if parameter not in adapters]
        if adapters:
            yield LORA, [parameter for parameter in weights if parameter in adapters]
        return
    owners: dict[nn.Parameter, set[str]] = {}
    for i, layer in enumerate(layers):
        for parameter in layer.parameters():
            owners.setdefault(parameter, set()).add(f"{ENCODER}.{i}")
    # The place of a module in the code does not show this: DeBERTa's norm after the layers is part of its embeddings.
    above = own_weights(trace_layers(encoder, layers).after)
    by_group: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in weights:
        users = owners.get(parameter, {NORM} if parameter in above else {EMBEDDINGS})
        group = EMBEDDINGS if len(users) > 1 else next(iter(users))
        by_group.setdefault((group, parameter in adapters), []).append(parameter)
    for group in [EMBEDDINGS, *(f"{ENCODER}.{i}" for i in range(len(layers))), NORM]:
        for is_adapter in (False, True):
            if parameters := by_group.get((group, is_adapter)):
                yield f"{LORA}.{group.removeprefix(f'{ENCODER}.')}" if is_adapter else group, parameters


def _without_wrappers(name: str) -> str:
    parts = [part for part in name.removeprefix("module.").split(".") if part not in _WRAPPERS]
    return ".".join(parts).removeprefix(PEFT_PREFIX)
