# The same without being named: a role and a database of others block, and nothing is changed.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
