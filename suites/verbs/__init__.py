"""One file per verb of `python -m suites`; each holds a click command named `command`."""
