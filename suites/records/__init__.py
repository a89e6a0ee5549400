"""Records, their store, and what is generated from them. Imports no torch: tables rebuild on a laptop."""
