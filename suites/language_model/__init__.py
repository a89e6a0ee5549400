"""The decoder that holds the layers, its training loop and its evaluation."""
