# Puts the snapshot into its bucket and has the function provision it; when the function fails, the apply fails.

locals {
  function_name = coalesce(var.function_name, "rds-provisioner-${var.environment}")
  snapshot_key  = coalesce(var.snapshot_key, "${var.environment}/terraform.tfvars.json")

  # An attribute that is not given is left out: the snapshot says only what somebody wrote.
  entries = {
    for application, entry in var.application_databases :
    application => { for name, value in entry : name => value if value != null }
  }

  approval = var.approval == null ? {} : {
    approval = { for name, value in var.approval : name => value if value != null }
  }

  about_this_run = {
    environment  = var.environment
    build_id     = var.build_id
    run_id       = var.run_id
    requested_by = var.requested_by
  }

  answer  = jsondecode(aws_lambda_invocation.provision.result)
  dry_run = var.dry_run_while_planning ? jsondecode(data.aws_lambda_invocation.dry_run[0].result) : null
}

resource "aws_s3_object" "snapshot" {
  bucket       = var.snapshot_bucket
  key          = local.snapshot_key
  content_type = "application/json"
  content = jsonencode({
    environment           = var.environment
    application_databases = local.entries
  })
}

resource "aws_lambda_invocation" "provision" {
  function_name = local.function_name
  triggers      = var.triggers

  input = jsonencode(merge(local.about_this_run, local.approval, {
    mode      = "apply"
    fail_fast = var.fail_fast
    adopt     = var.adopt
    tfvars = {
      bucket     = aws_s3_object.snapshot.bucket
      key        = aws_s3_object.snapshot.key
      version_id = aws_s3_object.snapshot.version_id
    }
  }))
}

data "aws_lambda_invocation" "dry_run" {
  count = var.dry_run_while_planning ? 1 : 0

  function_name = local.function_name

  input = jsonencode(merge(local.about_this_run, {
    mode = "dry_run"
    tfvars = {
      bucket = var.snapshot_bucket
      key    = coalesce(var.dry_run_snapshot_key, local.snapshot_key)
    }
  }))
}
