# A database that the administrator itself owns, with an editor and a reader and no declared owner.
application_databases = {
  shop_editor = { database_name = "shop", username = "editor_role", access_level = "editor" }
  shop_report = { database_name = "shop", username = "report_role", access_level = "reader" }
}
