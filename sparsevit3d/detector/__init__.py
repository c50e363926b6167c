"""FCOS3D and PGD on SparseSwin: the detector, its decoding, its convolutions and its transforms."""
