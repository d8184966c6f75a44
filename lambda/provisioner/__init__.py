"""Makes an RDS PostgreSQL server match the application databases that a Terraform snapshot declares."""
