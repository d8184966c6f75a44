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

  mock_data "aws_lambda_invocation" {
    defaults = {
      result = "{\"status\": \"planned\", \"plan_digest\": \"sha256:def\", \"plan_text\": \"+ create_role\"}"
    }
  }
}

variables {
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
    condition = jsondecode(aws_s3_object.snapshot.content) == {
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
    error_message = aws_s3_object.snapshot.content
  }
}

run "the_function_of_the_environment_is_called_with_the_version_that_was_put" {
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

run "an_approval_without_a_digest_names_none" {
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

run "a_pipeline_that_only_plans_sees_the_dry_run" {
  command = plan

  variables {
    dry_run_while_planning = true
    dry_run_snapshot_key   = "dev/previews/pull-request-12.tfvars.json"
  }

  assert {
    condition = jsondecode(data.aws_lambda_invocation.dry_run[0].input) == {
      environment  = "dev"
      mode         = "dry_run"
      build_id     = ""
      run_id       = ""
      requested_by = "terraform"
      tfvars       = { bucket = "acme-tfvars", key = "dev/previews/pull-request-12.tfvars.json" }
    }
    error_message = data.aws_lambda_invocation.dry_run[0].input
  }

  assert {
    condition     = output.dry_run.plan_digest == "sha256:def"
    error_message = "the digest of the dry run does not come out"
  }
}

run "a_key_that_is_not_json_is_refused" {
  command = plan

  variables {
    snapshot_key = "dev/terraform.tfvars"
  }

  expect_failures = [var.snapshot_key]
}
