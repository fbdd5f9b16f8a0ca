"""Tasks: what is learned and how it is evaluated; one LightningModule and one data module each."""
