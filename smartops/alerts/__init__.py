"""Which outcome deserves an alert, who is to be told, and what the message says."""
