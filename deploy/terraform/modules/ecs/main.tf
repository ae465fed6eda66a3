# Without Kubernetes: the engine as a service of ECS on one instance with one volume. Not on Fargate, whose only lasting storage is a
# network file system: a journal wants a disk of its own, and `flock` and `fsync` that mean what they say.

locals {
  volume_mount = "/var/lib/doorbuster"
}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
}

data "aws_subnet" "engine" {
  id = var.private_subnet_id
}

data "aws_region" "here" {}

resource "aws_ecs_cluster" "shop" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_security_group" "engine" {
  name        = "${var.name}-engine"
  description = "The engine: from the balancer, to databases and payment providers"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "front" {
  security_group_id            = aws_security_group.engine.id
  referenced_security_group_id = var.front_security_group_id
  from_port                    = 8080
  to_port                      = 8080
  ip_protocol                  = "tcp"
  description                  = "The balancer"
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = { https = 443, postgres = 5432, redis = 6379 }
  security_group_id = aws_security_group.engine.id
  cidr_ipv4         = each.key == "https" ? "0.0.0.0/0" : var.network_block
  from_port         = each.value
  to_port           = each.value
  ip_protocol       = "tcp"
  description       = each.key
}

# The journal's disk. It outlives instances: a new one attaches it and goes on.
resource "aws_ebs_volume" "journal" {
  availability_zone = data.aws_subnet.engine.availability_zone
  size              = var.volume_gib
  type              = "gp3"
  iops              = 6000
  throughput        = 250
  encrypted         = true
  kms_key_id        = var.key_arn
  tags              = { Name = "${var.name}-journal" }
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_launch_template" "engine" {
  name_prefix            = "${var.name}-"
  image_id               = data.aws_ssm_parameter.image.value
  instance_type          = var.instance_type
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.engine.id]
  iam_instance_profile {
    arn = aws_iam_instance_profile.instance.arn
  }
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  # Attach, make a file system only where there is none, mount, join the cluster. A volume that another instance still has is
  # waited for: two engines on one journal must never be.
  user_data = base64encode(<<-EOT
    #!/bin/bash
    set -euo pipefail
    token=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' http://169.254.169.254/latest/api/token)
    instance=$(curl -s -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id)
    until aws ec2 attach-volume --region ${data.aws_region.here.name} --volume-id ${aws_ebs_volume.journal.id} --instance-id "$instance" --device /dev/sdf; do
      sleep 2
    done
    until [ -b /dev/sdf ]; do sleep 1; done
    blkid /dev/sdf || mkfs.ext4 /dev/sdf
    mkdir -p ${local.volume_mount}
    mount /dev/sdf ${local.volume_mount}
    # The engine's user, by number as in the image; made here, or Docker would make the directory as root.
    install -d -o 10001 -g 10001 -m 0700 ${local.volume_mount}/data
    echo "ECS_CLUSTER=${aws_ecs_cluster.shop.name}" >> /etc/ecs/ecs.config
  EOT
  )
}

resource "aws_autoscaling_group" "engine" {
  name                = "${var.name}-engine"
  vpc_zone_identifier = [var.private_subnet_id]
  # One. This group does not scale; it replaces what died.
  min_size         = 1
  max_size         = 1
  desired_capacity = 1
  launch_template {
    id      = aws_launch_template.engine.id
    version = "$Latest"
  }
  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }
}

resource "aws_ecs_capacity_provider" "engine" {
  name = var.name
  auto_scaling_group_provider {
    auto_scaling_group_arn = aws_autoscaling_group.engine.arn
  }
}

resource "aws_ecs_cluster_capacity_providers" "shop" {
  cluster_name       = aws_ecs_cluster.shop.name
  capacity_providers = [aws_ecs_capacity_provider.engine.name]
}

resource "aws_cloudwatch_log_group" "engine" {
  name              = "/${var.name}/engine"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_ecs_task_definition" "engine" {
  family                   = var.name
  requires_compatibilities = ["EC2"]
  network_mode             = "awsvpc"
  execution_role_arn       = aws_iam_role.execution.arn

  volume {
    name      = "data"
    host_path = "${local.volume_mount}/data"
  }

  container_definitions = jsonencode([{
    name                   = "engine"
    image                  = var.image
    command                = ["serve", "--production"]
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    # It drains for eight seconds and finishes requests; the rest is margin.
    stopTimeout       = 60
    memoryReservation = 2048
    portMappings      = [{ containerPort = 8080 }, { containerPort = 9090 }]
    mountPoints       = [{ sourceVolume = "data", containerPath = "/data" }]
    linuxParameters   = { capabilities = { drop = ["ALL"] } }
    ulimits           = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    environment = [
      { name = "DOORBUSTER_LOG_FORMAT", value = "json" },
      { name = "DOORBUSTER_DRAIN_DELAY_MS", value = "8000" },
      { name = "DOORBUSTER_RATE_LIMITS", value = "production" },
      { name = "DOORBUSTER_TRUSTED_PROXY", value = var.public_block },
    ]
    secrets = [
      { name = "DOORBUSTER_ADMIN_KEY", valueFrom = "${var.secret_arn}:admin-key::" },
      { name = "DOORBUSTER_DATABASE_URL", valueFrom = "${var.secret_arn}:database-url::" },
      { name = "DOORBUSTER_REDIS_URL", valueFrom = "${var.secret_arn}:redis-url::" },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.engine.name
        awslogs-region        = data.aws_region.here.name
        awslogs-stream-prefix = "engine"
      }
    }
  }])
}

resource "aws_ecs_service" "engine" {
  name            = "engine"
  cluster         = aws_ecs_cluster.shop.id
  task_definition = aws_ecs_task_definition.engine.arn
  desired_count   = 1
  # The old one is gone before the new one comes: they would ask for the same directory.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  # A recovery may take minutes and must not be killed for it.
  health_check_grace_period_seconds = 1800

  capacity_provider_strategy {
    capacity_provider = aws_ecs_capacity_provider.engine.name
    weight            = 1
  }
  network_configuration {
    subnets         = [var.private_subnet_id]
    security_groups = [aws_security_group.engine.id]
  }
  load_balancer {
    target_group_arn = var.target_group_arn
    container_name   = "engine"
    container_port   = 8080
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  depends_on = [aws_ecs_cluster_capacity_providers.shop]
}
