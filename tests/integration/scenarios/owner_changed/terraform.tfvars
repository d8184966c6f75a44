# A change of owner is blocked; the way out that the plan tells is followed here, and leads to what is declared.
application_databases = {
  shop_new = { database_name = "shop", username = "new_owner" }
  shop     = { database_name = "shop", username = "old_owner", access_level = "reader" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
