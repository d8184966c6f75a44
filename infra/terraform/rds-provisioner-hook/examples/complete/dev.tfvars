environment = "dev"

subnet_ids      = ["subnet-00000000000000000", "subnet-11111111111111111"]
snapshot_bucket = "acme-tfvars"

database_security_group_id = "sg-00000000000000000"

application_databases = {
  keycloak = {
    database_name = "keycloak"
    username      = "keycloak_user"
  }
  analytics_readonly = {
    database_name = "keycloak"
    username      = "analytics_reader"
    access_level  = "reader"
  }
}
