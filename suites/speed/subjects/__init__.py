"""What a cell builds: the call that is timed, and what it must compute and move."""
