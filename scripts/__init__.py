"""Tools for developers: the generated pages, the pictures."""
