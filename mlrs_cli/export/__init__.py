"""Schedules taken elsewhere: tables, graphs, source files."""
