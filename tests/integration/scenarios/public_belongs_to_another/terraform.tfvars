# The schema `public` belongs to somebody else and is closed: what the levels lack on it is said, and what would help.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
