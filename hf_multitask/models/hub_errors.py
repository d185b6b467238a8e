"""What can go wrong between a model, its files and the hub, in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

# Of the hub's client, whatever it sends its requests with: a connection that breaks is no HfHubHTTPError.
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]


@contextmanager
def weights_explained(name_or_path: str | Path, **hub_kwargs: Any) -> Iterator[None]:
    """Say what is wrong with a model's weights where they cannot be loaded.

    Args:
        name_or_path: Folder or hub name of the model.
        hub_kwargs: Passed to the hub's client, such as ``revision``.

    Raises:
        ValueError: If there are none, only pickled ones, or a file of them is damaged.
    """
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"{name_or_path}: {_damaged_file(str(name_or_path), **hub_kwargs)} is damaged or was cut short, copy or "
            f"download it again. {error}"
        ) from error
    except OSError as error:
        if SAFE_WEIGHTS_NAME not in str(error):
            raise
        raise ValueError(
            f"{name_or_path}: expected the weights in {SAFE_WEIGHTS_NAME}, found no such file. Pickled weights "
            "(pytorch_model.bin) of multi-task models are not read, because a pickle can run code when it is loaded; "
            "save_pretrained writes safetensors."
        ) from error


@contextmanager
def upload_explained(repo_id: str) -> Iterator[None]:
    """Say what an upload that fails has left behind.

    Args:
        repo_id: Hub name of the repository.

    Raises:
        ConnectionError: If the upload fails.
    """
    try:
        yield
    except (_HTTPError, RuntimeError) as error:
        # Around the upload of a large file the client raises a RuntimeError.
        cause = error if isinstance(error, _HTTPError) else error.__cause__
        if not isinstance(cause, _HTTPError):
            raise
        raise ConnectionError(
            f"{repo_id}: the upload failed; push again. A commit is on the hub as a whole or not at all. {cause}"
        ) from error


def _damaged_file(name_or_path: str, **hub_kwargs: Any) -> str:
    """Return the name of the first file of weights that cannot be opened."""
    cached = cached_file(
        name_or_path,
        SAFE_WEIGHTS_NAME,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        **hub_kwargs,
    )
    folder = Path(name_or_path) if cached is None else Path(cached).parent
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError:
            return path.name
    return SAFE_WEIGHTS_NAME
