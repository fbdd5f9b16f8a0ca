"""Tasks: what is learned and how it is evaluated. Each task is a LightningModule with a data module."""
