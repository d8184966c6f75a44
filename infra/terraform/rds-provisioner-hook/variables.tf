variable "environment" {
  description = "The environment that the function serves, as its stack names it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.environment))
    error_message = "An environment has lower-case letters, digits and hyphens, at most 31, and begins with a letter."
  }
}

variable "application_databases" {
  description = "What the server is to hold, by application; the same map that the application secrets are made from."
  type = map(object({
    database_name    = string
    username         = string
    access_level     = optional(string, "owner")
    secret_name      = optional(string)
    createdb         = optional(bool)
    connection_limit = optional(number)
    extensions       = optional(list(string))

    accepted_findings = optional(list(string))
  }))

  validation {
    condition = alltrue([
      for entry in values(var.application_databases) : contains(["owner", "editor", "reader"], entry.access_level)
    ])
    error_message = "The access_level is owner, editor or reader."
  }

  validation {
    condition = alltrue(flatten([
      for entry in values(var.application_databases) : [
        for name in [entry.database_name, entry.username] : can(regex("^[a-z][a-z0-9_-]{0,62}$", name))
      ]
    ]))
    error_message = "A database_name and a username begin with a letter, then have letters, digits, _ or -, all lower case, at most 63."
  }
}

variable "snapshot_bucket" {
  description = "The versioned bucket of the snapshots (output SnapshotBucket of the function's stack)."
  type        = string
}

variable "snapshot_bucket_owner" {
  description = "The account that the bucket must belong to, that of the caller unless given; the output caller_policy holds it."
  type        = string
  default     = null
}

variable "snapshot_key" {
  description = "Where the snapshot goes, {environment}/terraform.tfvars.json unless given; the stack's SnapshotKey must say the same."
  type        = string
  default     = null

  validation {
    condition     = var.snapshot_key == null ? true : endswith(var.snapshot_key, ".tfvars.json")
    error_message = "The snapshot is JSON, so its key must end with .tfvars.json."
  }
}

variable "function_name" {
  description = "The function to call, rds-provisioner-{environment} unless given."
  type        = string
  default     = null
}

variable "function_qualifier" {
  description = "The alias or version to call."
  type        = string
  default     = "live"
}

variable "build_id" {
  description = "Which build this is, for the audit. A new value calls the function again."
  type        = string
  default     = ""
}

variable "run_id" {
  description = "Which run of the pipeline this is, for the audit. A new value calls the function again."
  type        = string
  default     = ""
}

variable "requested_by" {
  description = "Who asks, for the audit: a pipeline, not a person, since a new value calls the function again. CloudTrail has the person."
  type        = string
  default     = "terraform"
}

variable "approval" {
  description = "What a gated environment needs: the digest of the approved plan, which an approver's object in the audit bucket approves; or, where the stack asks for no digest, allow_db_provision and who approved."
  type = object({
    allow_db_provision = optional(bool)
    approved_by        = optional(string)
    plan_digest        = optional(string)
  })
  default = null
}

variable "fail_fast" {
  description = "Whether the first failed change ends the run; otherwise the other roles and databases are still provisioned."
  type        = bool
  default     = false
}

variable "adopt" {
  description = "Applications whose existing role and database are taken over."
  type        = list(string)
  default     = []
}

variable "quarantine" {
  description = "Roles that are not declared any more and may not log in from now on; declared again, they are given back."
  type        = list(string)
  default     = []
}

variable "retire" {
  description = "Roles that were quarantined long enough and go; what they own passes on. Taken out again once they are gone."
  type        = list(string)
  default     = []
}

variable "triggers" {
  description = "Further values whose change calls the function again, such as the resource id of the instance."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "Ids or ARNs of the secrets that the function reads, by a name of yours: a new current version of one calls the function again. Refer to the aws_secretsmanager_secret_version, so that a new secret has its value before."
  type        = map(string)
  default     = {}
}

variable "dry_run_while_planning" {
  description = "Asks the function, while Terraform plans, what an apply of this configuration would do; see the output dry_run."
  type        = bool
  default     = false
}

variable "keep_history" {
  description = "Whether Terraform refuses to delete the snapshot, because that deletes every version of it."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of the snapshot's object."
  type        = map(string)
  default     = {}
}
