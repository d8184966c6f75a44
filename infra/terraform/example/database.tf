# The instance, and the secret that its master password comes from.

locals {
  master_username = "platform_admin"
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
  vpc_security_group_ids = [aws_security_group.database.id]

  backup_retention_period   = 7
  deletion_protection       = var.environment == "prod"
  skip_final_snapshot       = var.environment != "prod"
  final_snapshot_identifier = var.environment == "prod" ? "platform-prod-final" : null
}

# What the function reads (its stack's parameter SecretPrefix says where).
resource "aws_secretsmanager_secret" "master" {
  name        = "${var.secret_prefix}/${var.environment}/rds/master"
  description = "The administrator of the PostgreSQL instance of ${var.environment}"
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
