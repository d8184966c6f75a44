terraform {
  required_version = ">= 1.5, < 2.0"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Tried with 5.100.0. Version 6 was not to be had where this was tried.
      version = ">= 5.100, < 6.0"
    }
  }
}
