"""Pictures of what models attend to and confuse: arrays, and how to draw them. Knows no model and no Lightning."""
