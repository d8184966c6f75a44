# Up to 15 a membership is of no use to an administrator that inherits nothing; from 16 on it says so for itself.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
