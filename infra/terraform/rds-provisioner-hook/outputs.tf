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
  description = "With dry_run_while_planning: the status, the digest to approve, the blockers, and the plan as text."
  value = local.dry_run == null ? null : {
    status      = local.dry_run.status
    plan_digest = local.dry_run.plan_digest
    plan_text   = local.dry_run.plan_text
    blockers    = try(local.dry_run.blockers, [])
  }
}

output "snapshot" {
  description = "The snapshot as it is put into the bucket."
  value       = local.content
}

output "caller_policy" {
  description = "The IAM policy that whoever applies this module needs for it, as JSON. With keys of your own, add kms:GenerateDataKey and kms:Decrypt."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "CallTheFunction"
        Effect   = "Allow"
        Action   = ["lambda:InvokeFunction"]
        Resource = "arn:${data.aws_partition.current.partition}:lambda:*:*:function:${local.function_name}:${var.function_qualifier}"
      },
      {
        Sid    = "PutTheSnapshot"
        Effect = "Allow"
        Action = concat(
          ["s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging", "s3:PutObject", "s3:PutObjectTagging"],
          var.keep_history ? [] : ["s3:DeleteObject", "s3:DeleteObjectVersion"],
        )
        Resource  = "arn:${data.aws_partition.current.partition}:s3:::${var.snapshot_bucket}/${local.snapshot_key}"
        Condition = local.of_the_owner
      },
      {
        Sid       = "TellMissingFromForbidden"
        Effect    = "Allow"
        Action    = concat(["s3:ListBucket"], var.keep_history ? [] : ["s3:ListBucketVersions"])
        Resource  = "arn:${data.aws_partition.current.partition}:s3:::${var.snapshot_bucket}"
        Condition = local.of_the_owner
      },
      ], length(var.secrets) == 0 ? [] : [
      {
        Sid      = "SeeRotations"
        Effect   = "Allow"
        Action   = ["secretsmanager:ListSecretVersionIds"]
        Resource = "arn:${data.aws_partition.current.partition}:secretsmanager:*:*:secret:*"
      },
    ])
  })
}
