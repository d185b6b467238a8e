"""Readers of files, hub datasets and records of annotation tools."""
