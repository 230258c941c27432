"""Image programs: models, ghost batch norm, data, training."""
