"""The command line of rds-provisioner: it calls the function of an environment and tells a person what came of it."""
