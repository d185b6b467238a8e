"""Activation cache: the states of frozen layers, computed once and read from disk."""
