application_databases = {
  shop     = { database_name = "shop", username = "old_owner" }
  shop_new = { database_name = "shop", username = "new_owner", access_level = "editor" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
