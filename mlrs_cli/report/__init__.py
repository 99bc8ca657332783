"""Curves, tables, comparisons."""
