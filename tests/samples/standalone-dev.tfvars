environment       = "dev"
aws_region        = "eu-central-1"
owner_team        = "shared-services"
identifier_prefix = "acme-dev-shared"

# Where the instance lives
vpc_name = "acme-dev-vpc"

# The instance; small on purpose
instance_class        = "db.t4g.small"
engine_version        = "16.4"
allocated_storage     = 30
max_allocated_storage = 60 # it grows by itself, up to 60 GB

# Its first database and its master
database_name   = "shared"
master_username = "shared_master"
# The password comes from random_password when none is given here

backup_retention_period = 14

# Databases of the applications
application_databases = {
  wiki = {
    database_name = "wiki"
    username      = "wiki_user"
  },
  tracker = {
    database_name = "tracker"
    username      = "tracker_user"
  }
}
