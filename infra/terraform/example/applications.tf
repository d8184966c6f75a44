# The secrets that the applications read, and the roles and databases that those secrets describe: from one map.

locals {
  # An entry that names a secret of its own brings it along.
  entries_with_our_secret = { for name, entry in var.application_databases : name => entry if entry.secret_name == null }
}

ephemeral "aws_secretsmanager_random_password" "application" {
  for_each = local.entries_with_our_secret

  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "application" {
  for_each = local.entries_with_our_secret

  name        = "${var.secret_prefix}/${var.environment}/${each.key}/postgres"
  description = "${each.value.access_level} of database ${each.value.database_name}"
}

resource "aws_secretsmanager_secret_version" "application" {
  for_each = local.entries_with_our_secret

  secret_id                = aws_secretsmanager_secret.application[each.key].id
  secret_string_wo_version = var.password_version
  secret_string_wo = jsonencode({
    username = each.value.username
    password = ephemeral.aws_secretsmanager_random_password.application[each.key].random_password
    engine   = "postgres"
    host     = aws_db_instance.platform.address
    port     = aws_db_instance.platform.port
    dbname   = each.value.database_name
  })
}

module "provisioning" {
  source = "../rds-provisioner-hook"

  environment           = var.environment
  application_databases = var.application_databases
  snapshot_bucket       = var.snapshot_bucket
  approval              = var.approval
  build_id              = var.build_id

  # A new instance is empty, and a new password has to reach the server.
  triggers = {
    instance         = aws_db_instance.platform.resource_id
    password_version = tostring(var.password_version)
  }

  # What the function needs before it is called.
  depends_on = [
    aws_secretsmanager_secret_version.master,
    aws_secretsmanager_secret_version.application,
    aws_vpc_security_group_ingress_rule.database_from_function,
    aws_vpc_security_group_egress_rule.function_to_database,
  ]
}
