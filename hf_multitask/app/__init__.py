"""Browser app to train, try and compare models."""

from .launch import launch_app

__all__ = ["launch_app"]
