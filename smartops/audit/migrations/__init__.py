"""The schema's history, applied by Alembic; each step is made for SQLite, MariaDB and MySQL."""
