# Included by the Makefile: what is built for AWS and called there.

.PHONY: build release cli stack validate rds-provision rds-provision-dry-run rds-approve rds-access doctor

build: $(SAM) ## build the Lambda artifact into .aws-sam/build; RDS_CA_BUNDLE=path where there is no network
	$(SAM) validate --lint
	@# The build runs in a folder of its own, where a relative path would mean something else.
	@if [ -n "$$RDS_CA_BUNDLE" ]; then RDS_CA_BUNDLE="$$(realpath "$$RDS_CA_BUNDLE")" && export RDS_CA_BUNDLE; fi; $(SAM) build

# An SBOM by the field's own tool, in an environment of its own: nothing else needs it.
SBOM := .venv-release/bin/cyclonedx-py
TEST_NEEDS += $(SBOM)

$(SBOM): pyproject.toml
	$(call environment,$(PYTHON),.venv-release,release)
	@touch $@

release: build $(SBOM) ## what somebody deploys who builds nothing: .aws-sam/release, with checksums and an SBOM
	@$(PYTHON) infra/make_release.py --built .aws-sam/build --release .aws-sam/release --cyclonedx $(SBOM)

lambda/requirements.lock: lambda/requirements.txt lambda/constraints.txt $(VENV)/.installed
	cd lambda && ../$(UV) pip compile requirements.txt --constraint constraints.txt --generate-hashes --no-header --no-annotate \
		--python-version 3.13 --python-platform aarch64-manylinux2014 --quiet --output-file requirements.lock

# The command line has a small environment of its own: on call, nobody waits for the tests' packages.
CLI := .venv-cli/bin/rds-provisioner
# The tests call it through make.
TEST_NEEDS += $(CLI)

cli: $(CLI) ## the command line: .venv-cli/bin/rds-provisioner --help

$(CLI): pyproject.toml
	$(call environment,$(PYTHON),.venv-cli,cli)
	@.venv-cli/bin/python -m pip install --quiet --quiet --no-deps --editable .
	@touch $@

stack: install $(SAM) $(CLI) ## keep the embedded stack up until Ctrl-C, to play with: docs/tutorial.md; POSTGRES=16 for another
	@$(PY) -m demo.embedded

validate: $(CLI) ## read a file as the function would, with no server and no account: TFVARS=terraform.tfvars
	@$(CLI) validate "$$TFVARS"

# TFVARS, ADOPT, QUARANTINE, RETIRE and the others that `rds-provisioner apply --help` names reach it as variables of the environment. make
# itself ends with 2 whatever the command ended with; EXIT_STATUS_FILE=path has the status that is meant.
define provision
	@status=64; if [ -n "$$ENV" ]; then $(CLI) $(1) "$$ENV" $(2); status=$$?; else echo "Which environment? make $@ ENV=dev" >&2; fi; \
	if [ -n "$$EXIT_STATUS_FILE" ]; then echo $$status > "$$EXIT_STATUS_FILE"; fi; exit $$status
endef

rds-provision: $(CLI) ## provision an environment: ENV=dev TFVARS=terraform.tfvars APPROVED_BY=name
	$(call provision,apply)

rds-approve: $(CLI) ## read a plan and approve it: ENV=prod DIGEST=sha256:...
	$(call provision,approve,"$$DIGEST")

rds-provision-dry-run: $(CLI) ## show what rds-provision would do: ENV=dev TFVARS=terraform.tfvars
	$(call provision,plan)

rds-access: $(CLI) ## who can do what, by which path: ENV=dev SAVE=folder
	$(call provision,access)

doctor: $(CLI) ## would it work here? The function's preflight, and what only you can see: ENV=dev
	$(call provision,doctor)
