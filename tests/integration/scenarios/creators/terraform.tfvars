# Others create in the database too: a member of the owner, the administrator, an editor where it may, a stranger.
application_databases = {
  shop        = { database_name = "shop", username = "shop_owner" }
  shop_editor = { database_name = "shop", username = "editor_role", access_level = "editor" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
