# Names that only quoting keeps from being something else, of databases and roles and of what an application makes.
application_databases = {
  odd        = { database_name = "my-shop", username = "my-owner" }
  odd-editor = { database_name = "my-shop", username = "the_select", access_level = "reader" }
}
