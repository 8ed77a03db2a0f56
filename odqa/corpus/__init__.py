"""Readers of source formats, and the splitting of articles into passages."""
