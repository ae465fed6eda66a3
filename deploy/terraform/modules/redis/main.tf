# Redis: announcements and shared rate limits. It may be lost at any time: announcements come again from the journal.

resource "aws_elasticache_subnet_group" "shop" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "redis" {
  name        = "${var.name}-redis"
  description = "Redis, for the engine and for consumers of announcements"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "redis" {
  for_each                     = toset(var.client_security_group_ids)
  security_group_id            = aws_security_group.redis.id
  referenced_security_group_id = each.value
  from_port                    = 6379
  to_port                      = 6379
  ip_protocol                  = "tcp"
  description                  = "Engine and consumers"
}

resource "aws_elasticache_parameter_group" "shop" {
  name   = var.name
  family = "redis7"

  # A full Redis must refuse, not forget streams that somebody has yet to read.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_elasticache_replication_group" "shop" {
  replication_group_id = var.name
  description          = "Announcements and shared rate limits of ${var.name}"
  engine               = "redis"
  engine_version       = "7.1"
  node_type            = var.node_type
  parameter_group_name = aws_elasticache_parameter_group.shop.name
  subnet_group_name    = aws_elasticache_subnet_group.shop.name
  security_group_ids   = [aws_security_group.redis.id]

  num_cache_clusters         = var.is_production ? 2 : 1
  automatic_failover_enabled = var.is_production
  multi_az_enabled           = var.is_production

  at_rest_encryption_enabled = true
  kms_key_id                 = var.key_arn
  transit_encryption_enabled = true
  auth_token                 = var.password
  auth_token_update_strategy = "ROTATE"

  # Some days of snapshots for the streams' sake, so that a consumer's place is not lost with a node.
  snapshot_retention_limit   = 3
  auto_minor_version_upgrade = true
}
