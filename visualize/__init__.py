"""Plain data to pictures. Nothing here knows a dataset or a model."""
