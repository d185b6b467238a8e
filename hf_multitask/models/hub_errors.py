"""Clear errors for damaged files of models, damaged or missing weights, and failed uploads."""

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

# Base error of the HTTP library that the hub's client uses: a broken connection is not an HfHubHTTPError.
MAX_MESSAGE = 300
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]


@contextmanager
def explain_file_errors(name_or_path: str | Path, what: str) -> Iterator[None]:
    """Explain that a library has met a file of a model with other content than it expects.

    Args:
        name_or_path: Folder or hub name of the model.
        what: The file, and what it should contain.

    Raises:
        ValueError: If the content cannot be used. Errors with a message of their own are raised as they are.
    """
    try:
        yield
    except (UnicodeDecodeError, JSONDecodeError) as error:
        raise ValueError(f"{name_or_path}: {what} is damaged. {error}") from error
    except (ValueError, OSError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the libraries raise what their own code happens to run into
        if "unexpected keyword argument" in str(error):
            raise  # the caller's mistake
        raise ValueError(f"{name_or_path}: {what} cannot be used. {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Return the kind of an error and its message on one line of readable length."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:MAX_MESSAGE]}{'…' if len(message) > MAX_MESSAGE else ''}"


@contextmanager
def explain_encoder_errors(name_or_path: str | Path, **hub_kwargs: Any) -> Iterator[None]:
    """Explain what is wrong with an encoder if its weights cannot be loaded.

    Args:
        name_or_path: Folder or hub name of the encoder.
        hub_kwargs: Passed to the hub's client, such as ``revision``.

    Raises:
        ValueError: If a file of weights is damaged, is a pickle of other things than tensors, or does not fit
            ``config.json``.
    """
    try:
        with explain_file_errors(name_or_path, "config.json with these weights"):
            yield
    except ValueError as error:
        cause = error.__cause__
        if cause is None:
            raise
        if isinstance(cause, SafetensorError):
            raise ValueError(_damage_message(name_or_path, cause, **hub_kwargs)) from cause
        if isinstance(cause, (UnpicklingError, EOFError)) or "PytorchStreamReader" in str(cause):
            raise ValueError(
                f"{name_or_path}: the pickled weights (pytorch_model.bin) are damaged, or contain more than tensors "
                "and are not loaded, because a pickle can run code. save_pretrained writes safetensors. "
                f"{one_line(cause)}"
            ) from cause
        raise


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
        raise ValueError(_damage_message(name_or_path, error, **hub_kwargs)) from error
    except StrictDataclassError as error:
        raise ValueError(f"{name_or_path}: config.json cannot be used. {one_line(error)}") from error
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


def _damage_message(name_or_path: str | Path, error: Exception, **hub_kwargs: Any) -> str:
    name = _damaged_file(str(name_or_path), **hub_kwargs)
    return f"{name_or_path}: {name} is damaged or was cut short, copy or download it again. {error}"


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
