# Included by the Makefile: what is built and called in AWS.

.PHONY: build

build: $(SAM) ## build the Lambda artifact into .aws-sam/build; RDS_CA_BUNDLE=path where there is no network
	$(SAM) build
