# NOLOGIN, an expiry, a connection limit and IAM are an operator's decisions: reported, never undone.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_editor = { database_name = "shop", username = "editor_role", access_level = "editor" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
  shop_tokens = { database_name = "shop", username = "tokens_role", access_level = "reader" }
}
