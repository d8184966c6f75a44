output "status" {
  description = "applied or no_change; anything else failed the apply."
  value       = module.provisioning.status
}

output "plan_digest" {
  value = module.provisioning.plan_digest
}

output "audit" {
  value = module.provisioning.audit
}

output "function_security_group_id" {
  description = "For the parameter SecurityGroupIds of the function's stack."
  value       = aws_security_group.function.id
}
