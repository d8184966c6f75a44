# The editor becomes a reader and the reader an editor: on everything that stands, and on what comes.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_first  = { database_name = "shop", username = "first_role", access_level = "reader" }
  shop_second = { database_name = "shop", username = "second_role", access_level = "editor" }
}
