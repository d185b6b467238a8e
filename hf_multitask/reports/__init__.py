"""Reports: self-contained HTML pages, figures and their style, and results for experiment trackers."""

__all__: list[str] = []
