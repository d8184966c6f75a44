# That nothing of an entry is lost on its way to the function. Ephemeral resources cannot be mocked, so this asks an AWS,
# for which a local stand-in is enough: `AWS_ENDPOINT_URL=http://127.0.0.1:5000 terraform test`.

provider "aws" {
  region                      = "eu-west-2"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  environment     = "dev"
  subnet_ids      = ["subnet-00000000000000000", "subnet-11111111111111111"]
  snapshot_bucket = "acme-tfvars"

  database_security_group_id = "sg-00000000000000000"

  application_databases = {
    keycloak = {
      database_name = "keycloak"
      username      = "keycloak_user"
    }
    analytics_readonly = {
      database_name    = "keycloak"
      username         = "analytics_reader"
      access_level     = "reader"
      connection_limit = 5
    }
    reporting = {
      database_name = "keycloak"
      username      = "reporting"
      access_level  = "editor"
      secret_name   = "shared/reporting"
    }
  }
}

run "every_attribute_of_an_entry_reaches_the_snapshot" {
  command = plan

  assert {
    condition = jsondecode(module.provisioning.snapshot).application_databases == {
      keycloak = { database_name = "keycloak", username = "keycloak_user", access_level = "owner" }
      analytics_readonly = {
        database_name    = "keycloak"
        username         = "analytics_reader"
        access_level     = "reader"
        connection_limit = 5
      }
      reporting = {
        database_name = "keycloak"
        username      = "reporting"
        access_level  = "editor"
        secret_name   = "shared/reporting"
      }
    }
    error_message = module.provisioning.snapshot
  }
}

run "an_entry_that_names_its_secret_gets_no_other" {
  command = plan

  assert {
    condition     = keys(aws_secretsmanager_secret.application) == ["analytics_readonly", "keycloak"]
    error_message = "a secret was made for an entry that has one"
  }

  assert {
    condition     = aws_secretsmanager_secret.application["keycloak"].name == "goldenpath/dev/keycloak/postgres"
    error_message = aws_secretsmanager_secret.application["keycloak"].name
  }
}

run "an_access_level_that_does_not_exist_is_refused" {
  command = plan

  variables {
    application_databases = {
      keycloak = {
        database_name = "keycloak"
        username      = "keycloak_user"
        access_level  = "admin"
      }
    }
  }

  expect_failures = [var.application_databases]
}
