output "status" {
  description = "What became of the run: applied or no_change."
  value       = local.answer.status
}

output "plan_digest" {
  description = "The digest of the plan that was applied."
  value       = local.answer.plan_digest
}

output "summary" {
  description = "How many things were created, changed, revoked, or needed nothing."
  value       = local.answer.summary
}

output "audit" {
  description = "Where the audit of the run, the trail and the stored plan lie."
  value       = local.answer.audit
}

output "dry_run" {
  description = "With dry_run_while_planning: the status, the digest to approve, and the plan as text."
  value = local.dry_run == null ? null : {
    status      = local.dry_run.status
    plan_digest = local.dry_run.plan_digest
    plan_text   = local.dry_run.plan_text
  }
}

output "snapshot" {
  description = "The snapshot as it was put into the bucket."
  value       = aws_s3_object.snapshot.content
}
