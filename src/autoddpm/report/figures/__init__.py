"""Rows as pictures and curves."""
