"""The finished rows of an experiment, chosen and grouped."""
