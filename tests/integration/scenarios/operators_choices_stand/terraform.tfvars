# NOLOGIN, an expiry and a connection limit are an operator's decisions: reported, never undone.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_editor = { database_name = "shop", username = "editor_role", access_level = "editor" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
