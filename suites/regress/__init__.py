"""Paired rounds of two commits: worktrees, fresh processes, controls, confirmation; and a proof."""
