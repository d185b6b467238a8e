"""Clear errors for damaged or missing weights and for failed uploads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

# Base error of the HTTP library that the hub's client uses: a broken connection is not an HfHubHTTPError.
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]


@contextmanager
def explain_weights_errors(name_or_path: str | Path, **hub_kwargs: Any) -> Iterator[None]:
    """Explain what is wrong with a model's weights if they cannot be loaded.

    Args:
        name_or_path: Folder or hub name of the model.
        hub_kwargs: Passed to the hub's client, such as ``revision``.

    Raises:
        ValueError: If the weights are missing, only available as a pickle, or in a damaged file.
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
def explain_upload_errors(repo_id: str) -> Iterator[None]:
    """Explain the state of the repository if an upload fails.

    Args:
        repo_id: Hub name of the repository.

    Raises:
        ConnectionError: If the upload fails.
    """
    try:
        yield
    except (_HTTPError, RuntimeError) as error:
        # The client wraps errors in the upload of a large file in a RuntimeError.
        cause = error if isinstance(error, _HTTPError) else error.__cause__
        if not isinstance(cause, _HTTPError):
            raise
        raise ConnectionError(
            f"{repo_id}: the upload failed; push again. A commit is on the hub as a whole or not at all. {cause}"
        ) from error


def _damaged_file(name_or_path: str, **hub_kwargs: Any) -> str:
    """Return the name of the first weights file that cannot be opened."""
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
