# Included by the Makefile: what is built for AWS and called there.

.PHONY: build rds-provision rds-provision-dry-run

build: $(SAM) ## build the Lambda artifact into .aws-sam/build; RDS_CA_BUNDLE=path where there is no network
	$(SAM) validate --lint
	$(SAM) build

# TFVARS, ADOPT and what the environment brings (APPROVED_BY, ALLOW_DB_PROVISION, PLAN_DIGEST, BUILD_ID, RUN_ID,
# STACK_NAME, FUNCTION_NAME, SNAPSHOT_BUCKET) are described by `python infra/rds_provision.py --help`.
PROVISION = $(PY) infra/rds_provision.py --environment "$(ENV)" $(if $(TFVARS),--tfvars "$(TFVARS)") $(if $(ADOPT),--adopt "$(ADOPT)")

rds-provision: $(VENV)/.installed ## provision an environment: ENV=dev TFVARS=terraform.tfvars APPROVED_BY=name
	@$(if $(ENV),,echo "Which environment? make $@ ENV=dev" >&2; exit 2)
	@$(PROVISION)

rds-provision-dry-run: $(VENV)/.installed ## show what rds-provision would do: ENV=dev TFVARS=terraform.tfvars
	@$(if $(ENV),,echo "Which environment? make $@ ENV=dev" >&2; exit 2)
	@$(PROVISION) --dry-run
