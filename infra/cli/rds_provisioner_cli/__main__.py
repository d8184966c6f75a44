"""`python -m rds_provisioner_cli`: the command without its installation."""

from rds_provisioner_cli.commands import main

main()
