"""LoRA of a run: adapters in some layers of the encoder, as the key ``lora`` of a config describes them."""

from dataclasses import dataclass

from torch import nn

from ..models import MultiTaskModel
from ..models.encoder_adapters import peft
from ..models.encoder_layers import find_layers
from ..models.field_types import check_fields
from ..models.layer_groups import ENCODER
from ..models.messages import unknown_name_message

ALL_LINEAR = "all-linear"


@dataclass
class LoraSettings:
    """LoRA adapters of the encoder (Hu et al. 2022), with the names of ``peft.LoraConfig``.

    The defaults are those that scored best (docs/FREEZING.md); PEFT's are smaller adapters, of query and value alone.

    Args:
        r: Rank of the adapters.
        lora_alpha: Scale of the adapters; they are multiplied by it and divided by ``r``. Defaults to twice ``r``.
        lora_dropout: Dropout rate of what the adapters read.
        layers: Layers that get adapters, such as ``"encoder[-3:]"``. Defaults to all.
        target_modules: Names of the linear modules that get adapters, such as ``[query, value]``, or ``"all-linear"``.
        use_dora: Whether to train the magnitude of the weights apart from their direction (Liu et al. 2024, "DoRA").
        use_rslora: Whether to divide the scale by the root of ``r`` (Kalajdzievski 2023, "rsLoRA").
    """

    r: int = 16
    lora_alpha: int | None = None
    lora_dropout: float = 0.0
    layers: str | list[str] | None = None
    target_modules: str | list[str] = ALL_LINEAR
    use_dora: bool = False
    use_rslora: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "lora.")
        for name in ("r", "lora_alpha"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"lora.{name} must be at least 1, found {value}.")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora.lora_dropout must be at least 0 and below 1, found {self.lora_dropout}.")


def add_lora(model: MultiTaskModel, settings: LoraSettings) -> None:
    """Put LoRA adapters into the encoder of a model.

    Args:
        model: The model. It is changed in place.
        settings: Settings of the adapters.

    Raises:
        ValueError: If the encoder already has adapters, or the settings select no layer or no module.
    """
    if model.active_adapters():
        raise ValueError(
            f"lora: the model already has an adapter, {model.active_adapters()[0]!r}; leave lora out to train it on."
        )
    config = peft().LoraConfig(
        r=settings.r,
        lora_alpha=2 * settings.r if settings.lora_alpha is None else settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_find_modules(model, settings),
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
    )
    model.add_adapter(config)


def _find_modules(model: MultiTaskModel, settings: LoraSettings) -> list[str]:
    """Return the names of the modules of the encoder that get adapters."""
    linear = [name for name, module in model.encoder.named_modules() if isinstance(module, nn.Linear)]
    if settings.layers is not None:
        prefixes = _prefixes(model, settings.layers)
        linear = [name for name in linear if name.startswith(prefixes)]
    targets = settings.target_modules
    if targets == ALL_LINEAR:
        return linear
    chosen: list[str] = []
    for target in [targets] if isinstance(targets, str) else targets:
        found = [name for name in linear if f".{name}".endswith(f".{target}")]
        if not found:
            parts = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(f"lora.target_modules: {unknown_name_message('module', target, [*parts, ALL_LINEAR])}")
        chosen.extend(found)
    return chosen


def _prefixes(model: MultiTaskModel, selectors: str | list[str]) -> tuple[str, ...]:
    """Return what the names of the modules in some layers of the encoder start with."""
    groups, layers = model.layer_groups(), find_layers(model.encoder)
    try:
        selected = groups.select(selectors)
    except ValueError as error:
        raise ValueError(f"lora.layers: {error}") from error
    path = next((name for name, module in model.encoder.named_modules() if module is layers), None)
    if path is None or not selected or not set(selected) <= set(groups.layers):
        raise ValueError(f"lora.layers: expected layers of the encoder, such as 'encoder[-3:]', found {selectors!r}.")
    return tuple(f"{path}.{name.removeprefix(f'{ENCODER}.')}." for name in selected)
