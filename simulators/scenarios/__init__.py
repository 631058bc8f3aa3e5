"""Faults with a beginning, a course and a truth: what fails, with whom, and by when it must be noticed."""
