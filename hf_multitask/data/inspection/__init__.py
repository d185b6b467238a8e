"""Counts, duplicates and lengths of the rows of a dataset."""
