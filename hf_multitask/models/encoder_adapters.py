"""Adapters of PEFT in an encoder: which methods, their weights, adding, merging and unwrapping them.

PEFT is optional. An encoder can only have adapters if PEFT has been imported, so that nothing here imports it to look.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from .messages import unknown_name_message
from .type_aliases import JsonObject

# What a PeftModel adds to the names of the weights of the model in it.
PEFT_PREFIX = "base_model.model."
DEFAULT = "default"

# Methods that train, save, load and merge as adapters of single modules. ALLOWED is tested method by method.
ALLOWED = ("LORA", "IA3", "LOHA", "LOKR", "HRA")
# Options that change or train more than adapters, with the values that do not.
_ONLY_ADAPTERS: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
    "layer_replication": (None,),
    "modules_to_save": (None,),
    "target_parameters": (None,),
    "trainable_token_indices": (None,),
}
# How the adapted modules are chosen. A saved config names each of them instead.
_CHOICES = ("exclude_modules", "layers_pattern", "layers_to_transform", "target_modules", "feedforward_modules")
# What a config says about where it comes from.
_ORIGIN = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type")


class AdapterConfig(Protocol):
    """A ``PeftConfig``. A model's code must not import its class, because peft is optional."""

    peft_type: Any
    is_prompt_learning: bool


def peft() -> Any:
    """Return the module ``peft``.

    Raises:
        ImportError: If it is not installed. The message contains the command that installs it.
    """
    try:
        return import_module("peft")
    except ImportError as error:
        raise ImportError("adapters need peft: pip install 'hf-multitask[lora]'") from error


def is_wrapped(model: object) -> bool:
    """Return whether ``get_peft_model`` has wrapped a model."""
    loaded = sys.modules.get("peft")
    return loaded is not None and isinstance(model, (loaded.PeftModel, loaded.PeftMixedModel))


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model in the wrapper of ``get_peft_model``, with its adapters; other models as they are."""
    if not is_wrapped(model):
        return model
    if model.active_peft_config.is_prompt_learning:  # type: ignore[union-attr]  # of PeftModel
        check_method(model.active_peft_config)  # type: ignore[arg-type]
    return model.get_base_model()  # type: ignore[operator]


def check_method(config: AdapterConfig) -> None:
    """Check that a method of PEFT can be frozen, saved and loaded as adapters of an encoder.

    Args:
        config: Config of the adapter.

    Raises:
        ValueError: If it cannot. The message names the method or the option.
    """
    method = str(getattr(config.peft_type, "value", config.peft_type))
    if config.is_prompt_learning:
        raise ValueError(
            f"peft_config: {method} learns prompts, which no layer has; expected a method that adapts the modules of "
            f"an encoder: {', '.join(ALLOWED)}."
        )
    if method == "ADALORA":
        raise ValueError(
            "peft_config: ADALORA needs a call of update_and_allocate at each step, which no Trainer makes, so that "
            "its ranks would never change. Use LORA, with rank_pattern for ranks by layer."
        )
    if method not in ALLOWED:
        raise ValueError(f"peft_config: {unknown_name_message('method', method, ALLOWED)}")
    for name, allowed in _ONLY_ADAPTERS.items():
        if (found := getattr(config, name, allowed[0])) not in allowed and found:
            raise ValueError(
                f"peft_config: {name}={found!r} changes or trains more than the adapters; expected "
                f"{' or '.join(map(repr, allowed))}. Weights of the encoder train where a freeze schedule names them."
            )


# The weights of adapters.


def adapted_modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the modules that have adapters, by name."""
    loaded = sys.modules.get("peft.tuners.tuners_utils")
    if loaded is not None:
        for name, module in model.named_modules():
            if isinstance(module, loaded.BaseTunerLayer):
                yield name, module


def has_adapters(model: nn.Module) -> bool:
    """Return whether any module of a model has an adapter."""
    return next(adapted_modules(model), None) is not None


def adapter_weights(model: nn.Module) -> set[nn.Parameter]:
    """Return the weights of all adapters, active or not."""
    return {weight for _, module in adapted_modules(model) for _, weight in _weights_by_adapter(module)}


def unused_weights(model: nn.Module) -> set[nn.Parameter]:
    """Return the weights that never run: those of adapters that are not active, and those that PEFT has copied."""
    unused = set()
    for _, module in adapted_modules(model):
        active = module.active_adapters
        unused |= {weight for adapter, weight in _weights_by_adapter(module) if adapter not in active}
    loaded = sys.modules.get("peft.utils.other")
    copied = () if loaded is None else loaded.ModulesToSaveWrapper
    for module in model.modules():
        if isinstance(module, copied) and module.active_adapters:
            unused |= set(module.original_module.parameters())
            copies = module.modules_to_save.items()
            unused |= {
                weight for name, copy in copies if name not in module.active_adapters for weight in copy.parameters()
            }
    return unused


def _weights_by_adapter(module: Any) -> Iterator[tuple[str, nn.Parameter]]:
    for name in module.adapter_layer_names:
        for adapter, part in getattr(module, name).items():
            weights = [part] if isinstance(part, nn.Parameter) else part.parameters()
            for weight in weights:
                yield adapter, weight


# Adding and removing them.


def add_adapter(encoder: PreTrainedModel, config: AdapterConfig, name: str = DEFAULT) -> None:
    """Put a new adapter into an encoder, freeze everything else in it, and let the adapter run.

    Args:
        encoder: The encoder.
        config: Config of the adapter.
        name: Name of the adapter.

    Raises:
        ValueError: If the method or an option is refused, there already is an adapter of this name, or no module is
            adapted.
    """
    check_method(config)
    if name in adapter_configs(encoder):
        raise ValueError(f"adapter {name!r}: the encoder already has an adapter of this name.")
    # As transformers marks an encoder with adapters, so that its methods for them work.
    encoder._hf_peft_config_loaded = True
    peft().inject_adapter_in_model(config, encoder, name)
    encoder.set_adapter(name)


def add_described(encoder: PreTrainedModel, adapters: Mapping[str, JsonObject], active: str | None) -> None:
    """Put the adapters of a saved config into an encoder. Their weights are still to be loaded.

    Args:
        encoder: The encoder.
        adapters: Adapters as `describe` returns them, by name.
        active: Name of the adapter that runs.
    """
    for name, values in adapters.items():
        add_adapter(encoder, peft().PeftConfig.from_peft_type(**values), name)
    if active is not None:
        encoder.set_adapter(active)


def freeze_adapted(encoder: nn.Module) -> None:
    """Let only the active adapters of an encoder train; an encoder without adapters stays as it is."""
    if has_adapters(encoder):
        trained = adapter_weights(encoder) - unused_weights(encoder)
        for weight in encoder.parameters():
            weight.requires_grad_(weight in trained)


def adapter_configs(model: nn.Module) -> dict[str, Any]:
    """Return the configs of the adapters of a model by name, as PEFT keeps them."""
    return getattr(model, "peft_config", {}) if has_adapters(model) else {}


def describe(encoder: nn.Module, name: str, config: Any) -> JsonObject:
    """Describe an adapter for a saved config, with the modules that it adapts by name.

    Args:
        encoder: Encoder with the adapter.
        name: Name of the adapter.
        config: Config of the adapter.
    """
    defaults = type(config)().to_dict()
    skipped = (*_CHOICES, *_ORIGIN, "init_lora_weights", "modules_to_save", "peft_type")
    changed = {key: value for key, value in config.to_dict().items() if key not in skipped and value != defaults[key]}
    modules = [(path, module) for path, module in adapted_modules(encoder) if name in _names(module)]
    described = {"peft_type": str(config.peft_type.value), **changed, "target_modules": [path for path, _ in modules]}
    if hasattr(config, "feedforward_modules"):
        described["feedforward_modules"] = [path for path, module in modules if module.is_feedforward]
    return described


def describe_all(encoder: nn.Module) -> dict[str, JsonObject]:
    """Describe all adapters of an encoder for a saved config, by name."""
    return {name: describe(encoder, name, config) for name, config in adapter_configs(encoder).items()}


def active_adapter(encoder: nn.Module) -> str | None:
    """Return the name of the adapter that runs, the first if there are several; None without adapters."""
    active: list[str] = next((list(module.active_adapters) for _, module in adapted_modules(encoder)), [])
    return next(iter(active), None)


def _names(module: Any) -> set[str]:
    return {adapter for adapter, _ in _weights_by_adapter(module)}


@torch.no_grad()
def merge(encoder: nn.Module) -> None:
    """Add the active adapter of an encoder to its weights, and remove all adapters.

    Args:
        encoder: The encoder. It is changed in place.

    Raises:
        ValueError: If a merged weight is not finite.
    """
    for path, module in list(adapted_modules(encoder)):
        module.merge(safe_merge=True)
        encoder.set_submodule(path, module.get_base_layer())
    for name in ("peft_config", "_hf_peft_config_loaded"):
        vars(encoder).pop(name, None)
    for weight in encoder.parameters():
        weight.requires_grad_(True)


def settings_of(encoder: nn.Module) -> JsonObject:
    """Return what the states of an encoder depend on besides its weights: the active adapters and their settings."""
    if any(module.disable_adapters for _, module in adapted_modules(encoder)):
        return {}
    active: list[str] = next((list(module.active_adapters) for _, module in adapted_modules(encoder)), [])
    return {name: described for name, described in describe_all(encoder).items() if name in active}
