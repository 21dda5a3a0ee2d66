"""The reading side: queries on the audit store that give frozen results. No Prefect."""
