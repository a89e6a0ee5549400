"""What is measured, each in a file of its own: its unit, and what it leaves out."""
