"""Models: the interface of every family, and a trained model's file."""
