"""What is timed, as values: a cell, the grid of a profile, sizes that match, bytes and FLOPs."""
