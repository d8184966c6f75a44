variable "environment" {
  description = "The environment that the function serves, as its stack names it."
  type        = string
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
}

variable "snapshot_bucket" {
  description = "The versioned bucket of the snapshots (output SnapshotBucket of the function's stack)."
  type        = string
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
  description = "Who asks, for the audit."
  type        = string
  default     = "terraform"
}

variable "approval" {
  description = "What a gated environment needs: who approved, and the digest of the plan that was approved."
  type = object({
    allow_db_provision = bool
    approved_by        = string
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

variable "triggers" {
  description = "Further values whose change calls the function again, such as the resource id of the instance."
  type        = map(string)
  default     = {}
}

variable "dry_run_while_planning" {
  description = "For pipelines that only plan: asks the function, while Terraform plans, what an apply would do."
  type        = bool
  default     = false
}

variable "dry_run_snapshot_key" {
  description = "The snapshot that the dry run looks at, uploaded before; the one that stands in the bucket unless given."
  type        = string
  default     = null
}
