"""Parts of the core with a real server at the other end."""
