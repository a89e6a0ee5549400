"""The decoder that holds the layers, its data, its training loop and its evaluation."""
