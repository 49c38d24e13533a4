"""Data sets: where their files lie, what is in them, and a check of all of it."""
