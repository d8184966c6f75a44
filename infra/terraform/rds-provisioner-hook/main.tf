# Puts the snapshot into its bucket and has the function provision it; when the function fails, the apply fails.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  function_name = coalesce(var.function_name, "rds-provisioner-${var.environment}")
  snapshot_key  = coalesce(var.snapshot_key, "${var.environment}/terraform.tfvars.json")

  # An attribute that is not given is left out: the snapshot says only what somebody wrote.
  entries = {
    for application, entry in var.application_databases :
    application => { for name, value in entry : name => value if value != null }
  }

  content = jsonencode({
    environment           = var.environment
    application_databases = local.entries
  })

  approval = var.approval == null ? {} : {
    approval = { for name, value in var.approval : name => value if value != null }
  }

  about_this_run = {
    environment  = var.environment
    build_id     = var.build_id
    run_id       = var.run_id
    requested_by = var.requested_by
  }

  # Of a secret that Secrets Manager or somebody else has rotated, too.
  secret_versions = {
    for name, secret in data.aws_secretsmanager_secret_versions.current :
    "secret:${name}" => join(",", [for each in secret.versions : each.version_id if contains(each.version_stages, "AWSCURRENT")])
  }

  # Names of buckets are global, and the provider puts an object by the name alone.
  of_the_owner = { StringEquals = { "aws:ResourceAccount" = coalesce(var.snapshot_bucket_owner, data.aws_caller_identity.current.account_id) } }

  object  = one(concat(aws_s3_object.snapshot, aws_s3_object.disposable))
  answer  = jsondecode(aws_lambda_invocation.provision.result)
  dry_run = var.dry_run_while_planning ? jsondecode(data.aws_lambda_invocation.dry_run[0].result) : null
}

# Deleting the object deletes every version of it: what a rollback goes back to, and what rows of the audit name. To leave,
# see the README.
resource "aws_s3_object" "snapshot" {
  count = var.keep_history ? 1 : 0

  bucket             = var.snapshot_bucket
  key                = local.snapshot_key
  content            = local.content
  content_type       = "application/json"
  checksum_algorithm = "SHA256"

  # Read back at every plan: what somebody else has put lacks it, so ours is put again.
  metadata = { sha256 = sha256(local.content) }

  tags = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

# The same, for an environment whose history nobody needs.
resource "aws_s3_object" "disposable" {
  count = var.keep_history ? 0 : 1

  bucket             = var.snapshot_bucket
  key                = local.snapshot_key
  content            = local.content
  content_type       = "application/json"
  checksum_algorithm = "SHA256"
  metadata           = { sha256 = sha256(local.content) }
  tags               = var.tags
}

# The version that the function is told of, once it is known to hold what this configuration says.
data "aws_s3_object" "put" {
  bucket        = local.object.bucket
  key           = local.object.key
  version_id    = local.object.version_id
  checksum_mode = "ENABLED"

  lifecycle {
    postcondition {
      condition     = self.checksum_sha256 == base64sha256(local.content)
      error_message = "The object s3://${self.bucket}/${self.key} is not the snapshot of this configuration: somebody has put another there, version ${self.version_id}. Delete that version, and apply again."
    }
  }
}

data "aws_secretsmanager_secret_versions" "current" {
  for_each = var.secrets

  secret_id = each.value
}

resource "aws_lambda_invocation" "provision" {
  function_name = local.function_name
  qualifier     = var.function_qualifier
  triggers      = merge(var.triggers, local.secret_versions)

  input = jsonencode(merge(local.about_this_run, local.approval, {
    mode       = "apply"
    fail_fast  = var.fail_fast
    adopt      = var.adopt
    quarantine = var.quarantine
    retire     = var.retire
    tfvars = {
      bucket     = data.aws_s3_object.put.bucket
      key        = data.aws_s3_object.put.key
      version_id = data.aws_s3_object.put.version_id
    }
  }))

  lifecycle {
    postcondition {
      condition     = contains(["applied", "no_change"], jsondecode(self.result).status)
      error_message = "The function answered ${jsondecode(self.result).status}: nothing was provisioned."
    }
  }
}

# Looks at what is being planned, which nobody has uploaded yet. It depends on variables alone, so that Terraform reads it
# while it plans.
data "aws_lambda_invocation" "dry_run" {
  count = var.dry_run_while_planning ? 1 : 0

  function_name = local.function_name
  qualifier     = var.function_qualifier

  input = jsonencode(merge(local.about_this_run, {
    mode       = "dry_run"
    adopt      = var.adopt
    quarantine = var.quarantine
    retire     = var.retire
    tfvars     = { inline = local.content, name = "terraform.tfvars.json" }
  }))
}
