"""Experiments of many training runs: what they are, what they cost, and the processes that run them."""
