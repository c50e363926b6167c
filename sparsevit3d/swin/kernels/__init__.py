"""Fast paths of the backbone. ``dispatch`` chooses one, and the plain layers remain the truth."""
