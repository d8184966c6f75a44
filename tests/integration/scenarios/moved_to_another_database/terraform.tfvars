# A role that is still declared loses what it had where it is no longer declared; entries that are gone are orphans.
application_databases = {
  shop          = { database_name = "shop", username = "shop_owner" }
  ledger        = { database_name = "ledger", username = "ledger_owner" }
  ledger_report = { database_name = "ledger", username = "report_role", access_level = "editor", secret_name = "report" }
}
