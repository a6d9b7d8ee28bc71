"""From a model and a data module to a checkpoint: one LightningModule for all families."""

from autoddpm.extras import need

need("train")
