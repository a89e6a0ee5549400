"""One model over several processes, and what that takes."""
