"""The whole system, used as its users do."""
