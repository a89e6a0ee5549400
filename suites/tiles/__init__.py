"""Warps and rows in flight of the kernels: tried on a GPU, checked while timed, kept in one table."""
