# Rights that were passed on: through managed hands they are taken back from the last to the first, through others not.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_first  = { database_name = "shop", username = "first_role", access_level = "editor" }
  shop_second = { database_name = "shop", username = "second_role", access_level = "reader" }
  shop_third  = { database_name = "shop", username = "third_role", access_level = "reader" }
}
