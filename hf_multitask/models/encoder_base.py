"""The base of an encoder with adapters: the pretrained encoder, of which a saved model names the weights it equals."""

import copy
import hashlib
import logging
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME

from .encoder_adapters import PEFT_PREFIX, adapter_configs, describe, peft
from .encoder_loading import find_model, load_config
from .encoder_models import load_encoder
from .hub_errors import explain_encoder_errors
from .modeling_base import drop_pooler
from .type_aliases import JsonObject
from .weights_digest import add_tensor

logger = logging.getLogger(__name__)

ENCODER_PREFIX = "encoder."
# Where PEFT keeps the weights of a module that it adapts.
_BASE_LAYER = ".base_layer."
# Folders of adapters in PEFT's format. They are not nested, because a push to the hub only follows one level.
ADAPTER_FOLDER = "adapter-{}"


@dataclass(frozen=True)
class Base:
    """A pretrained encoder that adapters were added to.

    Args:
        name: Hub name, or folder.
        revision: Commit on the hub; None for a folder or a package.
        dtype: Type that its weights are loaded in.
    """

    name: str
    revision: str | None
    dtype: torch.dtype

    @classmethod
    def of(cls, encoder: PreTrainedModel, saved: JsonObject | None, revision: str | None) -> "Base | None":
        """Return the base that an encoder was loaded from; None if its config does not say.

        Args:
            encoder: The encoder.
            saved: The base in the config of a saved model, which the encoder was loaded with.
            revision: Commit of an encoder that was loaded from the hub.
        """
        if saved is not None:
            return cls.saved(saved)
        name = str(encoder.config.name_or_path)
        if not name:
            return None
        if Path(name).expanduser().is_dir():
            return cls(str(Path(name).expanduser().resolve()), None, encoder.dtype)
        return cls(name, revision, encoder.dtype)

    @classmethod
    def saved(cls, values: JsonObject) -> "Base":
        """Return the base in the config of a saved model."""
        return cls(values["name_or_path"], values["revision"], getattr(torch, values["dtype"]))

    def to_dict(self, digest: str) -> JsonObject:
        """Return the base for the config of a saved model.

        Args:
            digest: Digest of the weights that the model leaves out.
        """
        dtype = str(self.dtype).removeprefix("torch.")
        return {"name_or_path": self.name, "revision": self.revision, "dtype": dtype, "digest": digest}

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine, which a model on the hub cannot name."""
        return Path(self.name).is_absolute()

    def read(self, **hub_kwargs: Any) -> dict[str, torch.Tensor]:
        """Read its weights.

        Args:
            hub_kwargs: ``token`` and ``cache_dir``.

        Raises:
            ValueError: If it cannot be loaded.
        """
        source = find_model(self.name)
        options = hub_kwargs if self.revision is None else {**hub_kwargs, "revision": self.revision}
        with explain_encoder_errors(source, **options):
            config = load_config(source, **options)
            encoder = load_encoder(source, config, dtype=self.dtype, trust_remote_code=False, **options)
        drop_pooler(encoder)  # as the model has
        return encoder.state_dict()


def commit_of(source: str, revision: str | None = None, cache_dir: str | None = None) -> str | None:
    """Return the commit that an encoder has just been loaded from; None for a folder.

    Args:
        source: Hub name or folder.
        revision: Revision that it was loaded with.
        cache_dir: Cache that it was loaded to.
    """
    if Path(source).is_dir():
        return None
    found = try_to_load_from_cache(source, CONFIG_NAME, cache_dir=cache_dir, revision=revision)
    # In the cache, the folder of a file has the name of the commit.
    return Path(found).parent.name if isinstance(found, str) else revision


def plain_name(name: str) -> str | None:
    """Return the name that a weight of a model has in an encoder without adapters; None outside of the encoder."""
    if not name.startswith(ENCODER_PREFIX):
        return None
    return name.removeprefix(ENCODER_PREFIX).replace(_BASE_LAYER, ".")


def adapted_name(name: str, modules: Collection[str]) -> str:
    """Return the name that a weight of an encoder has in a model whose adapters adapt some modules of the encoder."""
    module, _, weight = name.rpartition(".")
    return f"{ENCODER_PREFIX}{module}{_BASE_LAYER}{weight}" if module in modules else f"{ENCODER_PREFIX}{name}"


def adapted_by(adapters: Mapping[str, JsonObject]) -> set[str]:
    """Return the names of the modules that the adapters of a config adapt."""
    return {module for adapter in adapters.values() for module in adapter["target_modules"]}


def digest(tensor: torch.Tensor) -> bytes:
    """Return a digest of the shape, the type and the bits of a tensor."""
    found = hashlib.blake2b(digest_size=16)
    add_tensor(found, "", tensor)
    return found.digest()


def joint_digest(digests: Mapping[str, bytes], names: Iterable[str]) -> str:
    """Return one digest for the weights of some names.

    Args:
        digests: Digests by name in the plain encoder.
        names: The names.
    """
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(names):
        found.update(name.encode() + digests[name])
    return found.hexdigest()


def write_adapters(encoder: PreTrainedModel, base: Base | None, folder: str | PathLike) -> None:
    """Write each adapter to a folder of its own in PEFT's format, and remove folders of adapters that are gone.

    ``PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder, subfolder="adapter-default")`` reads it.

    Args:
        encoder: The encoder.
        base: The pretrained encoder that the adapters belong to, if it is known.
        folder: Folder of the model.
    """
    for old in Path(folder).glob(ADAPTER_FOLDER.format("*")):
        if (old / "adapter_config.json").is_file():
            shutil.rmtree(old)
    for name, config in adapter_configs(encoder).items():
        place = Path(folder, ADAPTER_FOLDER.format(name))
        saved = copy.deepcopy(config)
        described = describe(encoder, name, config)
        for choice in ("target_modules", "feedforward_modules"):
            if choice in described:
                setattr(saved, choice, described[choice])
        # They have chosen the target modules.
        for choice in ("exclude_modules", "layers_to_transform", "layers_pattern"):
            if hasattr(saved, choice):
                setattr(saved, choice, None)
        saved.inference_mode = True
        saved.base_model_name_or_path, saved.revision = (None, None) if base is None else (base.name, base.revision)
        saved.save_pretrained(place)
        weights = peft().get_peft_model_state_dict(encoder, adapter_name=name, save_embedding_layers=False)
        tensors = {f"{PEFT_PREFIX}{key}": value.detach().cpu().contiguous() for key, value in weights.items()}
        save_file(tensors, place / "adapter_model.safetensors", {"format": "pt"})
