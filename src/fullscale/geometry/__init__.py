"""Voxels and millimetres: volumes with their affine, and pure functions that move them between grids."""
