# Somebody with psql: rights taken and given, attributes, a password. All of it is found, named and put right.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner", connection_limit = 10 }
  shop_editor = { database_name = "shop", username = "editor_role", access_level = "editor" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
