"""Unit, integration and acceptance tests, and the guards of the layout."""
