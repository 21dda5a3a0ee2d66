"""Data: job files, tag maps, and how to run SmartOps on real machines."""
