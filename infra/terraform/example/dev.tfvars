environment = "dev"

vpc_id          = "vpc-00000000000000000"
subnet_ids      = ["subnet-00000000000000000", "subnet-11111111111111111"]
snapshot_bucket = "acme-tfvars"

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
