output "function_security_group_id" {
  description = "For the parameter SecurityGroupIds of the function's stack."
  value       = aws_security_group.function.id
}

output "database_security_group_id" {
  description = "For the variable database_security_group_id of the complete example."
  value       = aws_security_group.database.id
}
