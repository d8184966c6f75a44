# The instance, and the secret that its master password comes from.

locals {
  # The master is the administrator here, for a start; docs/operations.md has the delegated role, which can do less.
  master_username = "platform_admin"
  is_production   = var.environment == "prod"
  recovery_days   = local.is_production ? 30 : 0
}

ephemeral "aws_secretsmanager_random_password" "master" {
  password_length     = 40
  exclude_punctuation = true
}

# Made before the instance and read back for it, so that both hold the same password even when an apply breaks off
# between them.
resource "aws_secretsmanager_secret" "master_password" {
  name        = "${var.secret_prefix}/${var.environment}/rds/master-password"
  description = "The password of the master of the PostgreSQL instance of ${var.environment}"

  recovery_window_in_days = local.recovery_days
}

resource "aws_secretsmanager_secret_version" "master_password" {
  secret_id                = aws_secretsmanager_secret.master_password.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.master.random_password
  secret_string_wo_version = var.password_version
}

ephemeral "aws_secretsmanager_secret_version" "master_password" {
  secret_id  = aws_secretsmanager_secret.master_password.id
  version_id = aws_secretsmanager_secret_version.master_password.version_id
}

resource "aws_db_subnet_group" "platform" {
  name_prefix = "platform-${var.environment}-"
  subnet_ids  = var.subnet_ids
}

resource "aws_db_parameter_group" "platform" {
  name_prefix = "platform-${var.environment}-"
  family      = "postgres${split(".", var.engine_version)[0]}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "password_encryption"
    value = "scram-sha-256"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "platform" {
  identifier_prefix = "platform-${var.environment}-"
  engine            = "postgres"
  engine_version    = var.engine_version
  instance_class    = var.instance_class
  allocated_storage = 20
  storage_encrypted = true
  db_name           = "platform"

  username            = local.master_username
  password_wo         = ephemeral.aws_secretsmanager_secret_version.master_password.secret_string
  password_wo_version = var.password_version

  db_subnet_group_name   = aws_db_subnet_group.platform.name
  vpc_security_group_ids = [var.database_security_group_id]
  parameter_group_name   = aws_db_parameter_group.platform.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"
  publicly_accessible    = false
  multi_az               = local.is_production

  iam_database_authentication_enabled = true
  auto_minor_version_upgrade          = true
  copy_tags_to_snapshot               = true
  enabled_cloudwatch_logs_exports     = ["postgresql", "upgrade"]
  performance_insights_enabled        = true

  # In production changes wait for the maintenance window.
  apply_immediately         = !local.is_production
  backup_retention_period   = 7
  deletion_protection       = local.is_production
  skip_final_snapshot       = !local.is_production
  final_snapshot_identifier = local.is_production ? "platform-prod-final" : null
}

# What the function reads (its stack's parameter SecretPrefix says where).
resource "aws_secretsmanager_secret" "master" {
  name        = "${var.secret_prefix}/${var.environment}/rds/master"
  description = "The administrator of the PostgreSQL instance of ${var.environment}"

  recovery_window_in_days = local.recovery_days
}

resource "aws_secretsmanager_secret_version" "master" {
  secret_id                = aws_secretsmanager_secret.master.id
  secret_string_wo_version = var.password_version
  secret_string_wo = jsonencode({
    username = local.master_username
    password = ephemeral.aws_secretsmanager_secret_version.master_password.secret_string
    engine   = "postgres"
    host     = aws_db_instance.platform.address
    port     = aws_db_instance.platform.port
    dbname   = "postgres"
  })
}
