# An administrator that lacks what the plan needs is told before anything is written, with the statement that helps.
application_databases = {
  shop = { database_name = "shop", username = "shop_owner", createdb = true }
}
