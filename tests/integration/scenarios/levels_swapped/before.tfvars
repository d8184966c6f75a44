application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_first  = { database_name = "shop", username = "first_role", access_level = "editor" }
  shop_second = { database_name = "shop", username = "second_role", access_level = "reader" }
}
