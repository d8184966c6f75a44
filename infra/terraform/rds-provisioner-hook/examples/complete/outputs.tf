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

output "dry_run" {
  description = "What an apply would do on the server, while Terraform plans."
  value       = module.provisioning.dry_run
}

output "caller_policy" {
  description = "What whoever applies this needs for the hook, beside the rights to make what is made here."
  value       = module.provisioning.caller_policy
}
