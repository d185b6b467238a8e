"""Base class of the multi-task model: an encoder, its heads and their weights."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from .configuration_multitask import MultiTaskConfig
from .encoder_adapters import add_described, is_wrapped, unwrap
from .encoder_attention import build_attention_masks
from .encoder_dropout import use_quick_dropout
from .encoder_layers import evaluating, probe_inputs
from .encoder_models import build_encoder
from .encoder_packing import can_pack, pack_texts
from .encoder_partial_forward import HEADS, PartialForward
from .heads import LayerMix, build_head
from .heads_crf import CRF
from .heads_scope import ScopeStatistic
from .layer_groups import ENCODER, LayerGroups, layer_groups
from .private_layers import LayerCall, copy_private_layers, lowest_private, recorded_calls, run_private_layers
from .table_repr import ReprTable, ShownAsTable
from .tasks import REGRESSION, TaskConfig

# Minimum number of windows of long texts per pass without gradients, however few rows they belong to.
MIN_WINDOWS_PER_PASS = 8


@dataclass
class EncoderOutput(BaseModelOutput):
    """Output of the encoder, with what some heads read in its place.

    Args:
        task_states: Token states (batch, seq_len, hidden), by task with ``private_layers`` or ``mix_layers``.
    """

    task_states: dict[str, torch.Tensor] | None = None


class MultiTaskPreTrainedModel(ShownAsTable, PreTrainedModel):
    """An encoder with one head per task, and the initialization of their weights. Printed as a table of them.

    Args:
        config: Config; each of its tasks needs its labels.
    """

    config: MultiTaskConfig
    config_class = MultiTaskConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    supports_gradient_checkpointing = True
    # The encoder determines the supported implementations of attention and checks the choice when it is built.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MultiTaskConfig) -> None:
        super().__init__(config)
        # ``__post_init__`` of the config has made a config of a mapping.
        self.set_encoder(build_encoder(config.encoder_config))  # type: ignore[arg-type]
        size = (self.encoder.config.hidden_size, self.encoder.config.num_hidden_layers)
        self.heads = nn.ModuleDict({task.name: build_head(task, *size) for task in config.tasks})
        self.post_init()
        # After the initialization of weights, which would make the output of a new adapter random.
        add_described(self.encoder, config.adapters, config.active_adapter)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. An encoder that ``get_peft_model`` has wrapped is set without the wrapper."""
        if name == "encoder" and is_wrapped(value):
            wrapper, value = value, unwrap(value)
            value.peft_config, value._hf_peft_config_loaded = wrapper.peft_config, True
        super().__setattr__(name, value)

    def set_encoder(self, encoder: PreTrainedModel, modality: str | None = None) -> None:
        """Set the encoder, without a pooler, make its config a part of the model's, and copy private layers from it.

        A change of the encoder's config is one of the model's, such as that of ``encoder.resize_token_embeddings``.

        Args:
            encoder: The encoder. It is changed in place.
            modality: None for texts; a model has no other encoder.

        Raises:
            ValueError: If a modality is given, or a task has more ``private_layers`` than the encoder can have.
        """
        if modality is not None:
            raise ValueError(f"modality: a multi-task model has one encoder, of texts; found {modality!r}.")
        self.__dict__.pop("partial_forward", None)
        drop_pooler(encoder)
        use_quick_dropout(encoder)
        self.encoder: PreTrainedModel = encoder
        self.config.encoder_config = encoder.config
        private = [task for task in self.config.tasks if task.private_layers]
        self.private_layers = nn.ModuleDict({task.name: copy_private_layers(encoder, task) for task in private})

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return False, so that transformers initializes the encoder as a model of its own.

        With custom code, it skips modules without weights of their own. In some encoders, such as ModernBERT, these
        initialize the weights of their parts.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module in set(self.private_layers.modules()):
            self.encoder._init_weights(module)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            super()._init_weights(module)
        elif isinstance(module, LayerMix):
            init.zeros_(module.weights)
            init.ones_(module.scale)
        elif isinstance(module, CRF):
            for weight in module.parameters():
                init.zeros_(weight)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset all gradients, as ``nn.Module`` does, in a quarter of its time.

        The ``Trainer`` calls this method at every step. If only heads train, the walk over named parameters of
        ``nn.Module`` takes as long as their update.

        Args:
            set_to_none: Whether to set the gradients to None instead of zero.
        """
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        modules: list[nn.Module | None] = [self]
        while modules:
            module = modules.pop()
            if module is None:
                continue
            modules.extend(module._modules.values())
            for weight in module._parameters.values():
                if weight is not None:
                    weight.grad = None

    @property
    def crfs(self) -> dict[str, CRF]:
        """CRFs by task, for the tasks that have one. `decoding.decode` needs them in addition to the logits."""
        # PEFT may have wrapped a head, which then is no LinearHead.
        heads = ((name, getattr(head, "crf", None)) for name, head in self.heads.items())
        return {name: crf for name, crf in heads if crf is not None}

    @property
    def scope_statistics(self) -> dict[str, ScopeStatistic]:
        """Statistics of pooled states by task, for the tasks that abstain by them."""
        statistics = ((name, getattr(head, "scope", None)) for name, head in self.heads.items())
        return {name: statistic for name, statistic in statistics if statistic is not None}

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the encoder and the heads. ``print(model.encoder)`` shows all modules."""
        config = self.encoder.config
        about = f"{type(self.encoder).__name__}, {config.num_hidden_layers} layers of width {config.hidden_size}"
        rows = [["encoder", about, *_weights_in_words(self.encoder)]]
        for task in self.config.tasks:
            if task.private_layers:
                what = f"copies of the upper {task.private_layers} layers"
                rows.append([f"private.{task.name}", what, *_weights_in_words(self.private_layers[task.name])])
        for task in self.config.tasks:
            outputs = "numbers" if task.problem_type == REGRESSION else "labels"
            kind = f"{task.type.replace('_', ' ')}, {task.num_labels} {outputs}"
            rows.append([f"head.{task.name}", kind, *_weights_in_words(self.heads[task.name])])
        return [ReprTable(type(self).__name__, ("part", "what", "parameters", "trainable"), rows)]

    def layer_groups(self) -> LayerGroups:
        """Return the layer groups that can be frozen, from the bottom up; printed as a table."""
        return layer_groups(self)

    @cached_property
    def partial_forward(self) -> PartialForward:
        """Forward pass through some of the encoder's layers."""
        return PartialForward(self.encoder)

    def states_entering(
        self,
        groups: Sequence[str],
        stored_states: torch.Tensor | None = None,
        entering: str | None = None,
        **encoder_inputs: Any,
    ) -> dict[str, torch.Tensor]:
        """Run the encoder only as far as needed and return the states that enter some layer groups.

        Args:
            groups: Names of groups: ``encoder.1`` …, ``encoder.norm``; ``heads`` for the output of the encoder.
            stored_states: States to start from. The encoder runs from the bottom if None.
            entering: Group that ``stored_states`` enter.
            encoder_inputs: Inputs of the encoder, such as ``input_ids``.

        Returns:
            States (batch, seq_len, hidden) by group.

        Raises:
            ValueError: If the states that enter a group cannot be returned. The message names the groups that work.
        """
        return self.partial_forward.states_entering(groups, encoder_inputs, stored_states, entering)

    def _run_encoder(
        self,
        inputs: Mapping[str, torch.Tensor],
        encoder_kwargs: Mapping[str, Any],
        tasks: Sequence[TaskConfig],
        row_windows: torch.Tensor | None,
        stored_states: torch.Tensor | None,
        entering: str | None,
        packed: bool = False,
    ) -> EncoderOutput:
        """Return the encoder's output, from stored states, in chunks of windows, or packed where that applies."""
        if stored_states is not None and entering is not None:
            self._check_stored(tasks, entering)
            if entering == HEADS:
                return EncoderOutput(last_hidden_state=stored_states)
            return self._encode(inputs, encoder_kwargs, tasks, packed, stored_states, entering)
        if row_windows is not None and not torch.is_grad_enabled():
            size = max(len(row_windows), MIN_WINDOWS_PER_PASS)
            return self._encode_in_chunks(inputs, encoder_kwargs, size, tasks, packed)
        return self._encode(inputs, encoder_kwargs, tasks, packed)

    def _check_stored(self, tasks: Sequence[TaskConfig], entering: str) -> None:
        """Raise if the heads of some tasks read layers below the group that stored states enter."""
        for task in tasks:
            if task.mix_layers:
                raise ValueError(
                    f"stored_states: task {task.name!r} has mix_layers, which needs the states of all layers."
                )
        lowest = lowest_private(tasks, self.config.num_hidden_layers)
        allowed = [f"{ENCODER}.{i}" for i in range(1, lowest + 1)]
        if lowest < self.config.num_hidden_layers and entering not in allowed:
            raise ValueError(
                f"entering: private layers read the states that enter {allowed[-1]}; allowed: {', '.join(allowed)}, "
                f"found {entering!r}."
            )

    def _encode(
        self,
        inputs: Mapping[str, torch.Tensor],
        encoder_kwargs: Mapping[str, Any],
        tasks: Sequence[TaskConfig],
        packed: bool = False,
        stored_states: torch.Tensor | None = None,
        entering: str = "",
    ) -> EncoderOutput:
        # What a caller asks for besides the last states would be that of the rows, not of the texts.
        can_share = packed and not encoder_kwargs and can_pack(self.encoder)
        texts = pack_texts(self.encoder, inputs) if can_share else None
        if texts is None:
            options = {**build_attention_masks(self.encoder, inputs), **encoder_kwargs}
        else:
            options = texts.inputs
            stored_states = None if stored_states is None else texts.pack(stored_states)

        def run(**options: Any) -> BaseModelOutput:
            if stored_states is None:
                return self.encoder(**options)
            return self.partial_forward.forward_from(stored_states, entering, options)

        encoded = self.encode_for_heads(tasks, run, **options)
        if texts is None:
            return encoded
        own = {name: texts.unpack(states) for name, states in (encoded.task_states or {}).items()}
        return EncoderOutput(last_hidden_state=texts.unpack(encoded["last_hidden_state"]), task_states=own or None)

    def encode_for_heads(
        self, tasks: Sequence[TaskConfig], run: Callable[..., BaseModelOutput], **options: Any
    ) -> EncoderOutput:
        """Run the encoder, and compute what the heads of some tasks read in the place of its output.

        Args:
            tasks: Tasks of which the heads run.
            run: The encoder, or a part of its forward pass.
            options: Arguments of the encoder.

        Returns:
            Output of the encoder, with the states of tasks that have ``private_layers`` or ``mix_layers``.
        """
        mixes = any(task.mix_layers for task in tasks)
        lowest = lowest_private(tasks, self.config.num_hidden_layers)
        shared = {str(i): self.partial_forward.layers[i] for i in range(lowest, self.config.num_hidden_layers)}
        given = {**options, "output_hidden_states": True} if mixes else options
        calls: dict[str, LayerCall] = {}
        if shared:  # a compiled graph breaks here
            with recorded_calls(shared) as calls:
                encoded = run(**given)
        else:
            encoded = run(**given)
        states: tuple[torch.Tensor, ...] = encoded.get("hidden_states") or ()
        own: dict[str, torch.Tensor] = {}
        for task in tasks:
            of_task = states
            if task.private_layers:
                outputs = run_private_layers(self.private_layers[task.name], calls, self.partial_forward.final_modules)
                own[task.name] = outputs[-1]
                of_task = (*states[: -len(outputs)], *outputs)
            if task.mix_layers:
                own[task.name] = self.heads.get_submodule(f"{task.name}.mix")(of_task)
        requested = options.get("output_hidden_states", self.encoder.config.output_hidden_states) if mixes else True
        return EncoderOutput(
            last_hidden_state=encoded["last_hidden_state"],
            # Like transformers, with None for layers that are not asked for.
            hidden_states=_requested_layers(states, requested),  # type: ignore[arg-type]
            attentions=encoded.get("attentions"),
            task_states=own or None,
        )

    @torch.no_grad()
    def check_private_layers(self, tasks: Sequence[TaskConfig]) -> None:
        """Check private layers that are copies still: they must compute what the shared layers compute.

        Args:
            tasks: Tasks with such layers.

        Raises:
            ValueError: If they do not, as in an encoder whose layers change what the ones after them read.
        """
        with evaluating(self):
            try:
                unmixed = [replace(task, mix_layers=False) for task in tasks]
                found = self._encode(probe_inputs(self.encoder), {}, unmixed)
                expected = found["last_hidden_state"]
                states = found["task_states"].values()
                same = all(torch.allclose(state, expected, rtol=1e-3, atol=1e-4) for state in states)
            except Exception:  # a layer that cannot be copied fails in its own way
                same = False
        if not same:
            raise ValueError(
                f"task {tasks[0].name!r}: private_layers: copies of the upper layers of this encoder "
                f"({self.encoder.config.model_type}) do not compute what the layers compute. Leave private_layers out."
            )

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Compute activations again in the backward pass, as ``PreTrainedModel`` does.

        Args:
            activation_checkpointing_kwargs: See ``PreTrainedModel.activation_checkpointing_enable``.
            args: See there.
            kwargs: See there.

        Raises:
            ValueError: If it is of the reentrant kind and a task has ``private_layers``: their gradient would not
                reach the layers below.
        """
        if self.private_layers and (activation_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError("private_layers: leave use_reentrant=True out of the activation checkpointing.")
        super().activation_checkpointing_enable(activation_checkpointing_kwargs, *args, **kwargs)

    def _encode_in_chunks(
        self,
        inputs: Mapping[str, torch.Tensor],
        encoder_kwargs: Mapping[str, Any],
        size: int,
        tasks: Sequence[TaskConfig] = (),
        packed: bool = False,
    ) -> EncoderOutput:
        """Encode ``size`` windows at a time, so that one long text needs no more memory than a batch of short ones."""
        chunks = zip(*(value.split(size) for value in inputs.values()), strict=True)
        batches = [dict(zip(inputs, chunk, strict=True)) for chunk in chunks]
        outputs = [self._encode(batch, encoder_kwargs, tasks, packed) for batch in batches]
        if len(outputs) == 1:
            return outputs[0]
        joined: dict[str, Any] = {"last_hidden_state": torch.cat([output["last_hidden_state"] for output in outputs])}
        for name in ("hidden_states", "attentions"):
            if outputs[0].get(name) is not None:
                layers = zip(*(output[name] for output in outputs), strict=True)
                joined[name] = tuple(None if layer[0] is None else torch.cat(layer) for layer in layers)
        own = {
            name: torch.cat([output["task_states"][name] for output in outputs])
            for name in outputs[0].task_states or {}
        }
        return EncoderOutput(**joined, task_states=own or None)


def _weights_in_words(module: nn.Module) -> tuple[str, str]:
    """Return the number of weights of a module, and whether all, some or none of them train."""
    weights = list(module.parameters())
    trainable = [weight.requires_grad for weight in weights]
    return f"{sum(weight.numel() for weight in weights):,}", (
        "yes" if all(trainable) else "partly" if any(trainable) else "no"
    )


def _requested_layers(
    states: tuple[torch.Tensor, ...], requested: bool | Sequence[int] | None
) -> tuple[torch.Tensor | None, ...] | None:
    """Return the states that ``output_hidden_states`` asks for: all, none, or some, with None for the other layers."""
    if isinstance(requested, bool) or requested is None:
        return (states or None) if requested else None
    kept = {index % len(states) for index in requested}
    return tuple(layer if index in kept else None for index, layer in enumerate(states))


def drop_pooler(encoder: PreTrainedModel) -> None:
    """Remove a pooler that no head uses: its weights would never train, and DDP would wait for their gradients."""
    if isinstance(getattr(encoder, "pooler", None), nn.Module):
        can_be_none = "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters
        encoder.register_module("pooler", None if can_be_none else _NoPooler())


class _NoPooler(nn.Module):
    """Pooler of an encoder that calls it in any case, such as LayoutLM and SqueezeBERT."""

    def forward(self, *_: object, **__: object) -> None:
        """Return nothing."""
