"""Composition: the flow that runs any job, and flows written in Python."""
