"""Files, processes, precision and optional packages."""
