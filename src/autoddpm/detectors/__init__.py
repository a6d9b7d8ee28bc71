"""From a trained model and a batch to a reconstruction and an anomaly map: one file per method."""
