"""Two sides of records, cell by cell, and one number over commits. Imports no torch."""
