# The front: TLS and HTTP/2 end here, and the crudest floods too. What needs to know a cart or a customer is the engine's rate limits'
# (docs/rate-limits.md); this only sees addresses.

resource "aws_security_group" "front" {
  name        = "${var.name}-front"
  description = "The balancer: HTTPS from everywhere"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "https" {
  security_group_id = aws_security_group.front.id
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
  description       = "Shoppers"
}

# For the redirect alone.
resource "aws_vpc_security_group_ingress_rule" "http" {
  security_group_id = aws_security_group.front.id
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 80
  to_port           = 80
  ip_protocol       = "tcp"
  description       = "Redirect to HTTPS"
}

resource "aws_vpc_security_group_egress_rule" "engine" {
  security_group_id = aws_security_group.front.id
  cidr_ipv4         = var.private_block
  from_port         = 8080
  to_port           = 8080
  ip_protocol       = "tcp"
  description       = "The engine"
}

resource "aws_lb" "front" {
  name               = var.name
  load_balancer_type = "application"
  security_groups    = [aws_security_group.front.id]
  subnets            = var.public_subnet_ids
  # Longer than the engine's keep-alive of 75 s is wrong (a connection closed under a request), but live streams pause longer:
  # they send a heartbeat within this time.
  idle_timeout               = 60
  drop_invalid_header_fields = true
  enable_deletion_protection = var.is_production
  access_logs {
    bucket  = var.log_bucket
    prefix  = var.name
    enabled = true
  }
}

resource "aws_lb_target_group" "engine" {
  name        = var.name
  port        = 8080
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = var.vpc_id
  # The engine drains for eight seconds after it says 503; then nothing comes any more.
  deregistration_delay = 20
  health_check {
    path                = "/readyz"
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
    matcher             = "200"
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.front.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.engine.arn
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.front.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"
    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

# Operators' routes are for operators' networks: from elsewhere they are not there.
resource "aws_lb_listener_rule" "operators" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10
  action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      status_code  = "404"
    }
  }
  condition {
    path_pattern {
      values = ["/v1/admin/*", "/metrics"]
    }
  }
}

resource "aws_wafv2_web_acl" "front" {
  name  = var.name
  scope = "REGIONAL"

  default_action {
    allow {}
  }

  # First, because it is the cheapest: one address that asks this often within five minutes is no shopper. High, because an office or
  # a mobile network is one address too.
  rule {
    name     = "flood"
    priority = 0
    action {
      block {}
    }
    statement {
      rate_based_statement {
        limit              = var.requests_per_address
        aggregate_key_type = "IP"
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "flood"
      sampled_requests_enabled   = true
    }
  }

  rule {
    name     = "bad-reputation"
    priority = 1
    override_action {
      none {}
    }
    statement {
      managed_rule_group_statement {
        name        = "AWSManagedRulesAmazonIpReputationList"
        vendor_name = "AWS"
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "bad-reputation"
      sampled_requests_enabled   = true
    }
  }

  rule {
    name     = "known-bad-inputs"
    priority = 2
    override_action {
      none {}
    }
    statement {
      managed_rule_group_statement {
        name        = "AWSManagedRulesKnownBadInputsRuleSet"
        vendor_name = "AWS"
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "known-bad-inputs"
      sampled_requests_enabled   = true
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    sampled_requests_enabled   = true
  }
}

resource "aws_wafv2_web_acl_association" "front" {
  resource_arn = aws_lb.front.arn
  web_acl_arn  = aws_wafv2_web_acl.front.arn
}

# The name is given: a group for logs of this firewall has to begin so.
resource "aws_cloudwatch_log_group" "firewall" {
  name              = "aws-waf-logs-${var.name}"
  retention_in_days = 365
  kms_key_id        = var.key_arn
}

resource "aws_wafv2_web_acl_logging_configuration" "front" {
  resource_arn            = aws_wafv2_web_acl.front.arn
  log_destination_configs = [aws_cloudwatch_log_group.firewall.arn]
  # What opens a cart or the whole shop is nothing for a log.
  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
  redacted_fields {
    single_header {
      name = "cart-token"
    }
  }
}
