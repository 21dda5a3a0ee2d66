"""What we claim, re-runnable, each beside its peer in one run. ``make bench``."""
