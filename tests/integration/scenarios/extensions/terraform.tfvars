# A trusted extension is created as the owner, in a new database and in one that stands; what is installed stays.
application_databases = {
  shop   = { database_name = "shop", username = "shop_owner", extensions = ["citext", "hstore"] }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
  ledger = { database_name = "ledger", username = "ledger_owner", extensions = ["pgcrypto"] }
}
