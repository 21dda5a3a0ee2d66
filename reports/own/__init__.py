"""Users' own reports: a query, a template and a schedule in one file."""
