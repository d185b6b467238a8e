"""The part of the multi-task model that is about adapters of PEFT in its encoder."""

from typing import Any

from torch import nn

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
from .messages import unknown_name_message
from .modeling_base import MultiTaskPreTrainedModel


class MultiTaskAdapterModel(MultiTaskPreTrainedModel):
    """A multi-task model whose encoder may have adapters.

    Args:
        config: See `MultiTaskPreTrainedModel`.
    """

    def add_adapter(self, adapter_config: AdapterConfig, adapter_name: str | None = None) -> None:
        """Put an adapter of PEFT into the encoder. It runs and trains from now on; the encoder's own weights freeze.

        Args:
            adapter_config: Config of PEFT, such as ``LoraConfig(r=8)``. LoRA with its variants, IA3, LoHa, LoKr
                and HRA work.
            adapter_name: Name of the adapter. Defaults to ``"default"``.

        Raises:
            ImportError: If peft is not installed.
            ValueError: If the method is refused, or the encoder already has an adapter of this name.
        """
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

    def _check_adapter(self, name: str) -> None:
        known = adapter_configs(self.encoder)
        if name not in known:
            raise ValueError(unknown_name_message("adapter", name, known))

    def _take_wrapped(self, wrapper: Any) -> None:
        """Take the adapters that ``get_peft_model`` has put into this model, and let all heads train."""
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
