terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.90"
    }
  }
  # The state holds addresses and names, and has to be shared and locked. The bucket is yours: terraform init -backend-config=FILE
  backend "s3" {
    key          = "doorbuster/production.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "doorbuster", environment = "production" }
  }
}
