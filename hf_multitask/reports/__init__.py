"""Reports: pages that stand alone, and the pictures on them."""

__all__: list[str] = []
