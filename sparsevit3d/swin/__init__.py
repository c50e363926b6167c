"""SparseSwin, the backbone. Torch and numpy are all that it imports."""
