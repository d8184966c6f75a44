environment = "dev"
owner_team  = "platform"

# The instance and its databases in one object.
rds_config = {
  enabled        = false // runs from a state of its own
  identifier     = "shared-db"
  engine_version = "16.4"
  multi_az       = false
  parameters     = [{ name = "rds.force_ssl", value = "1" }]
  window         = null

  # Databases to create
  application_databases = {
    "wiki" = {
      database_name = "wiki"
      username      = "wiki_app"
    }
    "portal" = {
      database_name = "portal_catalog" # the first of many
      username      = "portal_app"
      createdb      = true
    }
  }
}

app_secrets = {
  "goldenpath/dev/wiki/admin" = {
    initial_value = "{\"username\":\"admin\",\"password\":\"PLACEHOLDER\"}"
    readers       = []
  }
}

replicas = {
  ebs-driver = 1
}
