"""Records: their schema, store, budgets and units. Imports no torch."""
