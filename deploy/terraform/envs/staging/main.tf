# Staging on ECS: the variant without Kubernetes, with the same network, databases and front in small. It shows that the second way
# works, at a fraction of a cluster's price.

locals {
  name  = "doorbuster-staging"
  block = "10.21.0.0/16"
}

module "key" {
  source               = "../../modules/key"
  name                 = local.name
  deletion_window_days = 7
}

# Its value is set by hand, once: admin-key, database-url and redis-url as one JSON object.
resource "aws_secretsmanager_secret" "engine" {
  name       = "${local.name}/engine"
  kms_key_id = module.key.arn
}

module "network" {
  source  = "../../modules/network"
  name    = local.name
  block   = local.block
  zones   = ["${var.region}a", "${var.region}b", "${var.region}c"]
  key_arn = module.key.arn
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
  is_production     = false
}

module "engine" {
  source                  = "../../modules/ecs"
  name                    = local.name
  vpc_id                  = module.network.vpc_id
  private_subnet_id       = module.network.private_subnet_ids[0]
  network_block           = local.block
  public_block            = module.network.public_block
  front_security_group_id = module.front.security_group_id
  target_group_arn        = module.front.target_group_arn
  image                   = var.image
  secret_arn              = aws_secretsmanager_secret.engine.arn
  key_arn                 = module.key.arn
  instance_type           = "c7i.large"
  volume_gib              = 20
}

module "postgres" {
  source                    = "../../modules/rds"
  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.data_subnet_ids
  client_security_group_ids = [module.engine.security_group_id]
  key_arn                   = module.key.arn
  instance_class            = "db.t4g.small"
  storage_gib               = 20
  is_production             = false
}

module "redis" {
  source                    = "../../modules/redis"
  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.data_subnet_ids
  client_security_group_ids = [module.engine.security_group_id]
  key_arn                   = module.key.arn
  password                  = var.redis_password
  node_type                 = "cache.t4g.micro"
  is_production             = false
}
