# Postgres: projection, reports and the rescue copy. In two zones with a synchronous standby, which is what makes
# `--durability replicated` mean two disks.

resource "aws_db_subnet_group" "shop" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "postgres" {
  name        = "${var.name}-postgres"
  description = "Postgres, for engine and jobs"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "postgres" {
  for_each                     = toset(var.client_security_group_ids)
  security_group_id            = aws_security_group.postgres.id
  referenced_security_group_id = each.value
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
  description                  = "Engine and jobs"
}

resource "aws_db_parameter_group" "shop" {
  name   = var.name
  family = "postgres15"

  # Encrypted or not at all.
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  # Whatever takes a second is worth a line.
  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }
}

resource "aws_iam_role" "monitoring" {
  name               = "${var.name}-postgres-monitoring"
  assume_role_policy = data.aws_iam_policy_document.monitoring_assume.json
}

data "aws_iam_policy_document" "monitoring_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "shop" {
  identifier     = var.name
  engine         = "postgres"
  engine_version = "15"
  instance_class = var.instance_class

  db_name  = "shop"
  username = "doorbuster"
  # Made and turned by the service; nobody writes it into a state file.
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.key_arn

  allocated_storage     = var.storage_gib
  max_allocated_storage = var.storage_gib * 4
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = var.key_arn

  db_subnet_group_name   = aws_db_subnet_group.shop.name
  vpc_security_group_ids = [aws_security_group.postgres.id]
  parameter_group_name   = aws_db_parameter_group.shop.name
  publicly_accessible    = false

  multi_az = var.is_production
  # Any second of the last thirty days can be gone back to.
  backup_retention_period = 30
  backup_window           = "02:00-03:00"
  maintenance_window      = "tue:04:00-tue:05:00"
  copy_tags_to_snapshot   = true

  auto_minor_version_upgrade          = true
  iam_database_authentication_enabled = true
  performance_insights_enabled        = true
  performance_insights_kms_key_id     = var.key_arn
  monitoring_interval                 = 15
  monitoring_role_arn                 = aws_iam_role.monitoring.arn
  enabled_cloudwatch_logs_exports     = ["postgresql", "upgrade"]

  # In staging it may go; in production nobody deletes the copy of the shop by a plan that was not read.
  deletion_protection       = var.is_production
  skip_final_snapshot       = !var.is_production
  final_snapshot_identifier = var.is_production ? "${var.name}-final" : null
}
