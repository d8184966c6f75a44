# What the module asks of the function, without an account: `terraform test`.

mock_provider "aws" {
  mock_resource "aws_s3_object" {
    defaults = {
      version_id = "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"
    }
  }

  mock_resource "aws_lambda_invocation" {
    defaults = {
      result = <<-JSON
        {"status": "applied", "plan_digest": "sha256:abc",
         "summary": {"create": 2, "change": 0, "revoke": 0, "unchanged": 0, "blocked": 0, "warnings": 0, "errors": 0},
         "audit": {"run": "s3://acme-governance/governance/dev/runs/1.csv"}}
      JSON
    }
  }

  mock_data "aws_s3_object" {
    defaults = {
      # Of what the variables below make.
      checksum_sha256 = "qcLUiN4lNq9YsbzWUxaWMbawItOax6AwGnpFePtge/Y="
    }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_secretsmanager_secret_versions" {
    defaults = {
      versions = [
        { version_id = "old", version_stages = ["AWSPREVIOUS"], created_time = "", last_accessed_date = "" },
        { version_id = "new", version_stages = ["AWSCURRENT"], created_time = "", last_accessed_date = "" },
      ]
    }
  }

  mock_data "aws_lambda_invocation" {
    defaults = {
      result = "{\"status\": \"planned\", \"plan_digest\": \"sha256:def\", \"plan_text\": \"+ create_role\"}"
    }
  }
}

variables {
  # What the tests make, they unmake.
  keep_history    = false
  environment     = "dev"
  snapshot_bucket = "acme-tfvars"
  application_databases = {
    keycloak = {
      database_name = "keycloak"
      username      = "keycloak_user"
    }
    analytics_readonly = {
      database_name = "keycloak"
      username      = "analytics_reader"
      access_level  = "reader"
      secret_name   = "shared/analytics"
    }
  }
}

run "the_snapshot_holds_every_attribute_that_was_given_and_no_other" {
  assert {
    condition = jsondecode(output.snapshot) == {
      environment = "dev"
      application_databases = {
        keycloak = { database_name = "keycloak", username = "keycloak_user", access_level = "owner" }
        analytics_readonly = {
          database_name = "keycloak"
          username      = "analytics_reader"
          access_level  = "reader"
          secret_name   = "shared/analytics"
        }
      }
    }
    error_message = output.snapshot
  }
}

run "the_function_of_the_environment_is_called_with_the_version_that_was_put" {
  variables {
    quarantine = ["keycloak_user", "analytics_reader"]
    retire     = ["old_user"]
  }

  assert {
    condition     = aws_lambda_invocation.provision.function_name == "rds-provisioner-dev"
    error_message = aws_lambda_invocation.provision.function_name
  }

  assert {
    condition = jsondecode(aws_lambda_invocation.provision.input) == {
      environment  = "dev"
      mode         = "apply"
      build_id     = ""
      run_id       = ""
      requested_by = "terraform"
      fail_fast    = false
      adopt        = []
      quarantine   = ["keycloak_user", "analytics_reader"]
      retire       = ["old_user"]
      tfvars = {
        bucket     = "acme-tfvars"
        key        = "dev/terraform.tfvars.json"
        version_id = "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"
      }
    }
    error_message = aws_lambda_invocation.provision.input
  }
}

run "an_approval_is_passed_on_with_the_digest" {
  override_data {
    target = data.aws_s3_object.put
    values = { checksum_sha256 = "YpHM6zbKr7CRreGhFxADzMXX8bCQbiu11C+QY9onaD8=", version_id = "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY" }
  }

  variables {
    environment = "prod"
    approval = {
      allow_db_provision = true
      approved_by        = "alice"
      plan_digest        = "sha256:abc"
    }
  }

  assert {
    condition = jsondecode(aws_lambda_invocation.provision.input).approval == {
      allow_db_provision = true
      approved_by        = "alice"
      plan_digest        = "sha256:abc"
    }
    error_message = aws_lambda_invocation.provision.input
  }
}

run "a_digest_alone_names_the_object_that_approves" {
  override_data {
    target = data.aws_s3_object.put
    values = { checksum_sha256 = "YpHM6zbKr7CRreGhFxADzMXX8bCQbiu11C+QY9onaD8=", version_id = "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY" }
  }

  variables {
    environment = "prod"
    approval    = { plan_digest = "sha256:abc" }
  }

  assert {
    condition     = jsondecode(aws_lambda_invocation.provision.input).approval == { plan_digest = "sha256:abc" }
    error_message = aws_lambda_invocation.provision.input
  }
}

run "an_approval_without_a_digest_names_none" {
  override_data {
    target = data.aws_s3_object.put
    values = { checksum_sha256 = "Gj7gj4epOGYfpYokEXmfYOxVruQw3loc+MGA5LPcpUA=", version_id = "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY" }
  }

  variables {
    environment = "test"
    approval = {
      allow_db_provision = true
      approved_by        = "alice"
    }
  }

  assert {
    condition = jsondecode(aws_lambda_invocation.provision.input).approval == {
      allow_db_provision = true
      approved_by        = "alice"
    }
    error_message = aws_lambda_invocation.provision.input
  }
}

run "the_answer_comes_out" {
  assert {
    condition = (
      output.status == "applied" && output.plan_digest == "sha256:abc" && output.summary.create == 2 &&
      output.audit.run == "s3://acme-governance/governance/dev/runs/1.csv" && output.dry_run == null
    )
    error_message = "the outputs are not those of the answer"
  }
}

run "the_dry_run_looks_at_what_is_being_planned" {
  command = plan

  variables {
    dry_run_while_planning = true
    quarantine             = ["keycloak_user"]
    retire                 = ["old_user"]
  }

  assert {
    condition = jsondecode(data.aws_lambda_invocation.dry_run[0].input) == {
      environment  = "dev"
      mode         = "dry_run"
      build_id     = ""
      run_id       = ""
      requested_by = "terraform"
      adopt        = []
      quarantine   = ["keycloak_user"]
      retire       = ["old_user"]
      tfvars       = { inline = output.snapshot, name = "terraform.tfvars.json" }
    }
    error_message = data.aws_lambda_invocation.dry_run[0].input
  }

  assert {
    condition     = output.dry_run.plan_digest == "sha256:def"
    error_message = "the digest of the dry run does not come out"
  }
}

run "a_foreign_object_in_the_bucket_is_refused" {
  command = plan

  override_data {
    target = data.aws_s3_object.put
    values = { checksum_sha256 = "of something else" }
  }

  expect_failures = [data.aws_s3_object.put]
}

run "a_rotated_secret_calls_the_function_again" {
  variables {
    secrets  = { keycloak = "goldenpath/dev/keycloak/postgres" }
    triggers = { instance = "db-1" }
  }

  assert {
    condition     = aws_lambda_invocation.provision.triggers == tomap({ instance = "db-1", "secret:keycloak" = "new" })
    error_message = jsonencode(aws_lambda_invocation.provision.triggers)
  }
}

run "names_and_levels_that_do_not_exist_are_refused" {
  command = plan

  variables {
    environment = "Prod"
    application_databases = {
      keycloak = { database_name = "keycloak", username = "Keycloak", access_level = "admin" }
    }
  }

  expect_failures = [var.environment, var.application_databases]
}

run "a_key_that_is_not_json_is_refused" {
  command = plan

  variables {
    snapshot_key = "dev/terraform.tfvars"
  }

  expect_failures = [var.snapshot_key]
}

run "by_default_the_snapshot_cannot_be_deleted" {
  command = plan

  variables {
    keep_history = true
  }

  assert {
    condition     = length(aws_s3_object.snapshot) == 1 && length(aws_s3_object.disposable) == 0
    error_message = "the object without protection was chosen"
  }

  assert {
    condition = !anytrue([
      for statement in jsondecode(output.caller_policy).Statement :
      anytrue([for action in statement.Action : startswith(action, "s3:Delete")])
    ])
    error_message = output.caller_policy
  }
}
