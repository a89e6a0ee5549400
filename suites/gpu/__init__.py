"""What a rented GPU is asked, in order of worth, within minutes, and what goes along to it."""
