# A file of the standalone shape: the block at the top level, everything else is somebody else's.
environment = "dev"
aws_region  = "eu-west-1"

/* Sizes are small here;
   production has a file of its own. */
instance_class    = "db.t4g.small" // burstable
allocated_storage = 20
iops              = null
headroom          = -1.5e1
retention_seconds = 60 * 60 * 24

note = <<EOT
application_databases = {
  ghost = { database_name = "ghost", username = "ghost" }
}
  "quotes", { brackets [ and # no comment /* either
EOT

tags = {
  "cost-center" : "4711",
  Owner         = "payments-team"
  (1)           = "one"
  price         = "$${not_a_template} 100%"
}

subnets = [
  { name = "a", cidr = "10.1.1.0/24", },
  { name = "b", cidr = "10.1.2.0/24" }, # the last
]

application_databases = {
  orders = {
    database_name = "orders"
    username      = "orders_app"
    extensions    = ["citext", "pg_trgm"]
  }, # a comma is allowed here
  # billing = { database_name = "billing", username = "billing_app" }
  "orders-reports" = {
    username         = "orders_reports" /* before the database: order does not matter */
    access_level     = "reader"
    database_name    = "orders"
    connection_limit = 5
  }
}

grüße = "unicode names are legal"
