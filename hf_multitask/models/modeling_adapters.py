"""The part of the multi-task model that is about adapters of PEFT in its encoder."""

import copy
import logging
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from .configuration_multitask import MultiTaskConfig
from .encoder_adapters import (
    DEFAULT,
    AdapterConfig,
    active_adapter,
    adapted_modules,
    adapter_configs,
    add_adapter,
    check_method,
    describe_all,
    has_adapters,
    is_wrapped,
    merge,
    unwrap,
)
from .encoder_base import Base, adapted_by, adapted_name, digest, joint_digest, plain_name, write_adapters
from .messages import unknown_name_message
from .modeling_base import MultiTaskPreTrainedModel
from .type_aliases import JsonObject

logger = logging.getLogger(__name__)


class MultiTaskAdapterModel(MultiTaskPreTrainedModel):
    """A multi-task model whose encoder may have adapters.

    Args:
        config: See `MultiTaskPreTrainedModel`.
    """

    # Names of the weights that the base has, set before each save.
    _keys_to_ignore_on_save: set[str] | list[str] | None = None
    # Commit of the encoder, if `from_encoder` has loaded it from the hub.
    encoder_revision: str | None = None

    def add_adapter(self, adapter_config: AdapterConfig, adapter_name: str | None = None) -> None:
        """Put an adapter of PEFT into the encoder. It runs and trains from now on; the encoder's own weights freeze.

        Args:
            adapter_config: Config of PEFT, such as ``LoraConfig(r=8)``. LoRA with its variants, IA3, LoHa, LoKr
                and HRA work.
            adapter_name: Name of the adapter. Defaults to ``"default"``.

        Raises:
            ImportError: If peft is not installed.
            ValueError: If the method is refused, the encoder already has an adapter of this name, or a task has
                private layers.
        """
        self._check_adaptable()
        add_adapter(self.encoder, adapter_config, adapter_name or DEFAULT)

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Let one adapter run and train instead of the others.

        Args:
            adapter_name: Its name.

        Raises:
            ValueError: If the encoder has no such adapter.
        """
        for name in [adapter_name] if isinstance(adapter_name, str) else adapter_name:
            self._check_adapter(name)
        self.encoder.set_adapter(adapter_name)

    def active_adapters(self) -> list[str]:
        """Return the names of the adapters that run; none without adapters."""
        return self.encoder.active_adapters() if has_adapters(self.encoder) else []

    def enable_adapters(self) -> None:
        """Let the adapters run again after `disable_adapters`."""
        self.encoder.enable_adapters()

    def disable_adapters(self) -> None:
        """Let the encoder run without its adapters."""
        self.encoder.disable_adapters()

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Remove adapters that do not run.

        Args:
            adapter_names: Their names.

        Raises:
            ValueError: If the encoder has no such adapter, or it is the one that runs.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for name in names:
            self._check_adapter(name)
            if name in self.active_adapters():
                raise ValueError(
                    f"adapter {name!r} is the one that runs; choose another with set_adapter first, or remove all "
                    "with merge_and_unload."
                )
        self.encoder.delete_adapter(names)

    def merge_and_unload(self) -> "MultiTaskAdapterModel":
        """Add the active adapter to the weights of the encoder and remove all adapters, in place.

        The logits stay the same, except for rounding. All weights of the encoder are trainable then.

        Returns:
            The model.

        Raises:
            ValueError: If a merged weight is not finite.
        """
        merge(self.encoder)
        self.follow_adapters()
        return self

    def follow_adapters(self) -> None:
        """Describe the adapters of the encoder in the config, from which a saved model is built again.

        Raises:
            ValueError: If an adapter cannot be saved.
        """
        for config in adapter_configs(self.encoder).values():
            check_method(config)
        self.config.adapters = describe_all(self.encoder)
        self.config.active_adapter = active_adapter(self.encoder)

    # Saving and loading: what the base has is left out.

    def save_pretrained(
        self, save_directory: str | PathLike, is_main_process: bool = True, *args: Any, **kwargs: Any
    ) -> None:
        """Save as ``PreTrainedModel`` does; of a model with adapters, only what its base encoder does not have.

        Each adapter is in a folder of its own, too, in PEFT's format.

        Args:
            save_directory: Folder to write to.
            is_main_process: Whether this process writes what is not sharded.
            args: See ``PreTrainedModel.save_pretrained``.
            kwargs: See ``PreTrainedModel.save_pretrained``.
        """
        self.follow_adapters()
        digests = self._base_digests()
        weights = kwargs.get("state_dict") or (self.state_dict() if digests else {})
        same = {
            name: plain
            for name, weight in weights.items()
            if (plain := plain_name(name)) in digests and digest(weight) == digests[plain]
        }
        base = self._base() if same else None
        self.config.base_encoder = None
        if base is not None:
            self.config.base_encoder = base.to_dict(joint_digest(digests, same.values()))
        # transformers leaves out these names.
        self._keys_to_ignore_on_save = set(same)
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        if is_main_process:
            write_adapters(self.encoder, base, save_directory)

    def check_pushable(self) -> None:
        """Check that others can load this model from the hub.

        Raises:
            ValueError: If its adapters belong to an encoder in a folder of this machine.
        """
        base = self._base()
        if base is not None and base.is_folder:
            raise ValueError(
                f"push: the adapters belong to the encoder in {base.name}, which is not on the hub. Push the encoder "
                "and train with its name there, or push a model without adapters: model.merge_and_unload()."
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights as ``nn.Module`` does; those of a checkpoint that has left out its base are read from there.

        Args:
            state_dict: Weights by name.
            strict: See ``nn.Module.load_state_dict``.
            assign: See ``nn.Module.load_state_dict``.

        Returns:
            The names of missing and of unexpected weights.
        """
        missing = {name: plain_name(name) for name in self.state_dict() if name not in state_dict}
        if missing and set(missing.values()) <= self._base_digests().keys():
            base = self._base()
            weights = {} if base is None else base.read()
            state_dict = {**state_dict, **{name: weights[plain] for name, plain in missing.items() if plain}}
        return super().load_state_dict(state_dict, strict, assign)

    def _base(self) -> Base | None:
        """Return the encoder that the adapters were added to; None without adapters, or if it is not known."""
        if not has_adapters(self.encoder):
            return None
        return Base.of(self.encoder, self.config.base_encoder, self.encoder_revision)

    def _base_digests(self) -> dict[str, bytes]:
        """Return the digests of the weights of the base, by name in it; none without adapters, or if it is gone."""
        base = self._base()
        if base is None:
            return {}
        known = self.__dict__.setdefault("_digests_by_base", {})
        if base not in known:
            try:
                known[base] = {name: digest(weight) for name, weight in base.read().items()}
            except (ValueError, OSError) as error:
                logger.warning("The whole model is saved with its adapters: the base cannot be read. %s", error)
                known[base] = {}
        return known[base]

    @staticmethod
    def _with_base(
        path: str | PathLike, config: MultiTaskConfig, saved: JsonObject, **hub_kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Return the weights of a saved model, together with those that it has left to its base.

        Args:
            path: Folder or hub name of the model.
            config: Config of the model.
            saved: The config's ``base_encoder``.
            hub_kwargs: ``revision``, ``token``, ``cache_dir``.

        Raises:
            ValueError: If the base cannot be loaded, or is another one now.
        """
        state = load_file(str(cached_file(str(path), SAFE_WEIGHTS_NAME, **hub_kwargs)))
        base = Base.saved(saved)
        try:
            weights = base.read(**{key: value for key, value in hub_kwargs.items() if key != "revision"})
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: the encoder that its adapters belong to cannot be loaded. {error}") from error
        modules = adapted_by(config.adapters)
        left_out = {name: full for name in weights if (full := adapted_name(name, modules)) not in state}
        if joint_digest({name: digest(weights[name]) for name in left_out}, left_out) != saved["digest"]:
            raise ValueError(
                f"{path}: its adapters belong to the encoder {base.name}"
                f"{'' if base.revision is None else f' at revision {base.revision}'}, which has other weights now."
            )
        return {**{full: weights[name] for name, full in left_out.items()}, **state}

    def _check_adaptable(self) -> None:
        """Raise if a task has private layers, which train as a whole while the shared layers would not."""
        for name in self.private_layers:
            raise ValueError(
                f"adapters: task {name!r} has private_layers, which have no adapters. Leave one of both out."
            )

    def _check_adapter(self, name: str) -> None:
        known = adapter_configs(self.encoder)
        if name not in known:
            raise ValueError(unknown_name_message("adapter", name, known))

    def _take_wrapped(self, wrapper: Any) -> None:
        """Take the adapters that ``get_peft_model`` has put into this model, and let all heads train."""
        self._check_adaptable()
        for path, _ in adapted_modules(self):
            if not path.startswith("encoder."):
                raise ValueError(
                    f"peft_config: it adapts {path!r}; only the encoder has adapters, and heads train as they are. "
                    "Leave the heads out: exclude_modules=r'heads\\..*'."
                )
        for name, head in self.heads.items():
            copies = getattr(head, "modules_to_save", None)
            if copies is not None:
                self.heads[name] = copies[head.active_adapter]
        self.encoder.peft_config = wrapper.peft_config
        self.encoder._hf_peft_config_loaded = True
        for config in wrapper.peft_config.values():
            config.modules_to_save = None
        self.heads.requires_grad_(True)
        self.follow_adapters()


def merged_copy(model: MultiTaskPreTrainedModel) -> Any:
    """Return a copy of a model with its adapters merged into the encoder; the model itself if it has none."""
    if not isinstance(model, MultiTaskAdapterModel) or not has_adapters(model.encoder):
        return model
    trained = [weight.requires_grad for weight in model.heads.parameters()]
    merged = copy.deepcopy(model).merge_and_unload()
    for weight, requires_grad in zip(merged.heads.parameters(), trained, strict=True):
        weight.requires_grad_(requires_grad)
    return merged


def unwrapped(model: nn.Module) -> Any:
    """Return the multi-task model in a wrapper of ``get_peft_model``, with its adapters; other models as they are.

    Heads train: PEFT has frozen them, and they need no entry in ``modules_to_save``.

    Args:
        model: A model, wrapped or not.

    Raises:
        ValueError: If PEFT adapts more than the encoder, or by a method that is refused.
    """
    if not is_wrapped(model):
        return model
    inner = unwrap(model)
    if isinstance(inner, MultiTaskAdapterModel):
        inner._take_wrapped(model)
    return inner
