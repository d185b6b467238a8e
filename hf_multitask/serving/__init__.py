"""A trained model behind HTTP: all its answers from one pass of the encoder."""

from .server import serve
from .settings import ServerSettings

__all__ = ["ServerSettings", "serve"]
