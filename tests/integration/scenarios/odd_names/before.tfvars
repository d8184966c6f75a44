application_databases = {
  odd        = { database_name = "my-shop", username = "my-owner" }
  odd-editor = { database_name = "my-shop", username = "the_select", access_level = "editor" }
}
