"""What a job is: its model, its files, its graph, its expressions, its revision."""
