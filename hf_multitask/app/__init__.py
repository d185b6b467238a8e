"""The app: training, trying and comparing models in the browser."""

from .launch import launch_app

__all__ = ["launch_app"]
