# From 16 on it takes ADMIN on a role to alter or grant it: said before anything is written, with the SQL that helps.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
