"""Checks of data: suites of expectations, how rows are judged by them, and what is said of it."""
