"""The audit record: a journal on the local disk, and the store that it is shipped to."""
