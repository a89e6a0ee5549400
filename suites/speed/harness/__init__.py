"""From cells to records: pytest-benchmark's side, preparation, samples."""
