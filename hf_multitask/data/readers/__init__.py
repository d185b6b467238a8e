"""Readers of files, hub datasets and exports of annotation tools."""
