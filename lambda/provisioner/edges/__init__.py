"""The input and output: AWS and PostgreSQL, with no decisions of their own."""
