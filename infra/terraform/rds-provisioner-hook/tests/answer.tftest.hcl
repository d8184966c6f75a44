# An answer that is no failure of the function and yet provisioned nothing.

mock_provider "aws" {
  mock_resource "aws_lambda_invocation" {
    defaults = {
      result = "{\"status\": \"superseded\", \"plan_digest\": \"\", \"summary\": {}, \"audit\": {}}"
    }
  }

  mock_data "aws_s3_object" {
    defaults = { checksum_sha256 = "gXvtcK8QDxSjUQJ7qH/oDA3x0/YhVeXsjwFxYMbqXbs=" }
  }
}

run "an_answer_that_provisioned_nothing_fails_the_apply" {
  variables {
    keep_history          = false
    environment           = "dev"
    snapshot_bucket       = "acme-tfvars"
    application_databases = {}
  }

  expect_failures = [aws_lambda_invocation.provision]
}
