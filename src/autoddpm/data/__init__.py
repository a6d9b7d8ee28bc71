"""What a network is given: samples, stored once, in an order, checked."""
