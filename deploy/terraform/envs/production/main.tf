# Production on EKS: network, cluster, Postgres with a standby, Redis with a replica, balancer and firewall. What runs in it is
# deploy/kubernetes/overlays/production.

locals {
  name  = "doorbuster-production"
  block = "10.20.0.0/16"
}

module "key" {
  source = "../../modules/key"
  name   = local.name
}

module "network" {
  source  = "../../modules/network"
  name    = local.name
  block   = local.block
  zones   = ["${var.region}a", "${var.region}b", "${var.region}c"]
  key_arn = module.key.arn
}

module "cluster" {
  source             = "../../modules/eks"
  name               = local.name
  private_subnet_ids = module.network.private_subnet_ids
  key_arn            = module.key.arn
}

module "postgres" {
  source                    = "../../modules/rds"
  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.data_subnet_ids
  client_security_group_ids = [module.cluster.node_security_group_id]
  key_arn                   = module.key.arn
  is_production             = true
}

module "redis" {
  source                    = "../../modules/redis"
  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.data_subnet_ids
  client_security_group_ids = [module.cluster.node_security_group_id]
  key_arn                   = module.key.arn
  password                  = var.redis_password
  is_production             = true
}

module "front" {
  source            = "../../modules/alb-waf"
  name              = local.name
  vpc_id            = module.network.vpc_id
  public_subnet_ids = module.network.public_subnet_ids
  private_block     = module.network.private_block
  certificate_arn   = var.certificate_arn
  log_bucket        = var.log_bucket
  key_arn           = module.key.arn
  is_production     = true
}
