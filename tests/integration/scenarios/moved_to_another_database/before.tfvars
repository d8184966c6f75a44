application_databases = {
  shop          = { database_name = "shop", username = "shop_owner" }
  shop_report   = { database_name = "shop", username = "report_role", access_level = "reader", secret_name = "report" }
  ledger        = { database_name = "ledger", username = "ledger_owner" }
  ledger_report = { database_name = "ledger", username = "report_role", access_level = "reader", secret_name = "report" }
  gone          = { database_name = "gone", username = "gone_owner" }
}
