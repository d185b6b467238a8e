"""Counts, duplicates and lengths of the rows of datasets."""
