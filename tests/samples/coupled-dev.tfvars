environment    = "dev"
aws_region     = "eu-central-1"
vpc_cidr       = "10.20.0.0/16"
owner_team     = "shared-services"
cluster_policy = "long-lived"
# long-lived = stays, build_id = "long-lived" (nothing is torn down by id)
# throwaway  = short-lived, tagged with build_id
build_id = "long-lived"

# =============================================================================
# WHAT MATTERS MOST (kept at the top)
# =============================================================================

# Catalogue of secrets
# Terraform makes them with values that stand in for the real ones.
app_secrets = {
  "acme/dev/wiki/admin" = {
    description = "First administrator of the wiki"
    metadata = {
      id    = "SEC-WIKI-ADMIN"
      owner = "shared-services"
      risk  = "low"
    }
    # Stands in for the real value until somebody puts that in
    initial_value          = "{\"username\":\"admin\",\"password\":\"TO_BE_REPLACED_BY_HAND\"}"
    read_principals        = []
    write_principals       = []
    break_glass_principals = []
  }

  "acme/dev/tracker/token" = {
    description = "Settings of the tracker (token, single sign-on)"
    metadata = {
      id    = "SEC-TRACKER-MAIN"
      owner = "shared-services"
      risk  = "high"
    }
    initial_value          = "{\"token\":\"TO_BE_REPLACED_BY_HAND\"}"
    read_principals        = []
    write_principals       = []
    break_glass_principals = []
  }
}

# The instance of the platform
# Its size, its engine and the databases of the applications.
rds_config = {
  enabled               = false # The standalone stack has taken over
  identifier            = "acme-shared-db"
  instance_class        = "db.t4g.small"
  engine_version        = "16.4"
  allocated_storage     = 30
  max_allocated_storage = 60
  multi_az              = false # one zone is enough for dev
  deletion_protection   = false
  skip_final_snapshot   = true
  backup_retention_days = 14

  # Databases to create, and the secrets that go with them
  application_databases = {
    "wiki" = {
      database_name = "wiki"
      username      = "wiki_app"
    }
    "tracker" = {
      database_name = "tracker_plugin_search" # the tracker has many; this is the first
      username      = "tracker_app"
    }
  }
}


public_subnets = [
  {
    name              = "acme-dev-public-a"
    cidr_block        = "10.20.1.0/24"
    availability_zone = "eu-central-1a"
  },
  {
    name              = "acme-dev-public-b"
    cidr_block        = "10.20.2.0/24"
    availability_zone = "eu-central-1b"
  }
]

common_tags = {
  Project = "acme-platform"
  Owner   = "shared-services"
}

# Compute of its own (switched on where somebody needs it)
compute_config = {
  enabled                       = true
  name                          = "acme-dev-host"
  instance_type                 = "t4g.small"
  additional_security_group_ids = []
  ssh_key_name                  = null
  root_volume_size              = 20
  root_volume_encrypted         = true
}

iam_config = {
  enabled               = true
  cluster_role_name     = ""
  oidc_audience         = "sts.amazonaws.com"
  autoscaler_policy_arn = "arn:aws:iam::123456789012:policy/acme-autoscaler"
  # Runs the provisioner
  enable_rds_provisioner_role = true
  rds_provisioner_role_name   = "acme-rds-provisioner"
}

addon_replica_counts = {
  aws-ebs-csi-driver  = 1
  snapshot-controller = 1
}

enable_storage_addons = true

cluster_config = {
  version = "1.31"
  node_group = {
    min_size       = 2
    max_size       = 4
    instance_types = ["t4g.medium"]
    update_config = {
      max_unavailable = 1
    }
  }
}

# Kept empty until there is something to keep
image_repositories = {}

dns_config = {
  enabled       = true
  domain_name   = "example.org"
  record_ttl    = 300
  cname_records = {}
}
