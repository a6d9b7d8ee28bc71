"""What every family of models must have (`model.py`), and how a model is written to and read from a
file.
"""
