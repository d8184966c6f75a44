# An extension that an owner may not create: the plan says who can, and goes on once that is done.
application_databases = {
  shop = { database_name = "shop", username = "shop_owner", extensions = ["pg_stat_statements"] }
}
