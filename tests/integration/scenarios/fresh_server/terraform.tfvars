# Nothing stands yet: an owner, an editor and a reader of one database, and the owner of another.
application_databases = {
  keycloak           = { database_name = "keycloak", username = "keycloak_user" }
  analytics_editor   = { database_name = "keycloak", username = "analytics_editor", access_level = "editor" }
  analytics_readonly = { database_name = "keycloak", username = "analytics_reader", access_level = "reader" }
  backstage          = { database_name = "backstage", username = "backstage_user", createdb = true, connection_limit = 20 }
}
