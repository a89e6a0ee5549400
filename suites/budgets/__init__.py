"""Matched budgets: what every layer costs, by three counters, and the configurations that cost the same."""
