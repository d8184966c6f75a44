# The function's group may speak to the database and to AWS; the database's group listens to nobody else.

resource "aws_security_group" "function" {
  name_prefix = "rds-provisioner-${var.environment}-"
  description = "rds-provisioner of ${var.environment}"
  vpc_id      = var.vpc_id
}

resource "aws_security_group" "database" {
  name_prefix = "platform-${var.environment}-database-"
  description = "PostgreSQL of ${var.environment}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "function_to_database" {
  security_group_id            = aws_security_group.function.id
  referenced_security_group_id = aws_security_group.database.id
  description                  = "PostgreSQL"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_egress_rule" "function_to_aws" {
  security_group_id = aws_security_group.function.id
  description       = "S3, Secrets Manager and SNS, through endpoints or a NAT gateway"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "database_from_function" {
  security_group_id            = aws_security_group.database.id
  referenced_security_group_id = aws_security_group.function.id
  description                  = "rds-provisioner"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
