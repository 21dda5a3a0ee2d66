"""Parts of the core, without servers."""
