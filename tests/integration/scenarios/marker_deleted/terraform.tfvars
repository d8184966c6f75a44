# The owner of a database can delete our mark on it; it is not taken back without being asked for.
application_databases = {
  shop = { database_name = "shop", username = "shop_owner" }
}
