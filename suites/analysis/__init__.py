"""What records say: statistics, isoFLOP curves, arms beside each other, verdicts. Imports no torch."""
