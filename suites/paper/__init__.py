"""One file per figure or table of the paper. Each is a value; its docstring is its reproduction card."""
