# What stood before is taken over only when it is named, and then becomes exactly what is declared.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
