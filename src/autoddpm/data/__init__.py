"""The samples of a network: stored once, in an order, checked."""
