"""Kills and outages while jobs with effects run; at the end the record is counted."""
