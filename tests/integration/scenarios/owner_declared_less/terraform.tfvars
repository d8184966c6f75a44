# Who owns a database can do everything in it: to declare it a reader would promise what nobody can hold.
application_databases = {
  shop = { database_name = "shop", username = "shop_owner", access_level = "reader" }
}
