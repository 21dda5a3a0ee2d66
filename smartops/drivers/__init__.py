"""One module per thing that a step talks to, all of one shape: a frozen connection, ``open()``."""
