variable "environment" {
  type = string
}

variable "aws_region" {
  type    = string
  default = "eu-west-2"
}

variable "subnet_ids" {
  description = "Private subnets, in two availability zones at least."
  type        = list(string)
}

variable "database_security_group_id" {
  description = "Output of the network example."
  type        = string
}

variable "snapshot_bucket" {
  type = string
}

variable "engine_version" {
  type    = string
  default = "17.6"
}

variable "instance_class" {
  type    = string
  default = "db.t4g.micro"
}

variable "secret_prefix" {
  type    = string
  default = "goldenpath"
}

# Every attribute that the function understands is named here: one that is not named would be dropped without a word,
# and a declared reader would become an owner.
variable "application_databases" {
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
}

variable "password_version" {
  description = "Raise it to give the master and every application a new password."
  type        = number
  default     = 1
}

variable "approval" {
  description = "What a gated environment needs; see the module."
  type = object({
    allow_db_provision = optional(bool)
    approved_by        = optional(string)
    plan_digest        = optional(string)
  })
  default = null
}

variable "dry_run_while_planning" {
  description = "Whether the plan of Terraform shows the plan of the function; the function must stand."
  type        = bool
  default     = false
}

variable "build_id" {
  type    = string
  default = ""
}
