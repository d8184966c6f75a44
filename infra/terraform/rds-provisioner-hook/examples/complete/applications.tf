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

  # A name is taken for as long as its secret can be recovered: too long for what is made again tomorrow.
  recovery_window_in_days = local.recovery_days
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
  source = "../.."

  environment           = var.environment
  application_databases = var.application_databases
  snapshot_bucket       = var.snapshot_bucket
  approval              = var.approval
  build_id              = var.build_id

  dry_run_while_planning = var.dry_run_while_planning

  # A new instance is empty.
  triggers = { instance = aws_db_instance.platform.resource_id }

  # What the function reads, so that it is called after them, and again when one is rotated. No depends_on: with one,
  # nothing of the module would be read while Terraform plans.
  secrets = merge(
    { administrator = aws_secretsmanager_secret_version.master.secret_id },
    { for name, version in aws_secretsmanager_secret_version.application : name => version.secret_id },
  )
}
