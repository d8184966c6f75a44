# What a platform team keeps for its development database; the provisioner reads `application_databases`, no more.
environment       = "dev"
aws_region        = "eu-west-1"
owner_team        = "data-platform"
identifier_prefix = "acme-dev-shared"

# The instance itself
instance_class        = "db.t4g.micro"
engine_version        = "18.1"
allocated_storage     = 20
max_allocated_storage = 40 # grows by itself up to here
database_name         = "platform"
master_username       = "platform_admin"

# One entry for each role that an application logs in with
application_databases = {
  keycloak = {
    database_name = "keycloak"
    username      = "keycloak_user"
  }
  backstage = {
    database_name = "backstage"
    username      = "backstage_user"
    createdb      = true # its plugins make databases of their own
  }
  analytics = {
    database_name = "keycloak"
    username      = "analytics_reader"
    access_level  = "reader"
  }
}
