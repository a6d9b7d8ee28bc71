"""Rows as tables: cells, intervals, differences, formats."""
