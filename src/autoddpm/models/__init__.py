"""A model as a thing: what every family promises (`model.py`), and its file."""
