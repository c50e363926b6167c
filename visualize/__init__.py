"""Turn plain data into pictures. Nothing here knows a dataset or a model."""
