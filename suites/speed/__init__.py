"""Throughput, memory and distance to the limit of layers and operations, by pytest-benchmark."""
