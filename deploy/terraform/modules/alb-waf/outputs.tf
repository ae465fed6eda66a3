output "dns_name" {
  description = "Where the shop's host has to point."
  value       = aws_lb.front.dns_name
}

output "target_group_arn" {
  description = "For the engine's task, or for the TargetGroupBinding of its service."
  value       = aws_lb_target_group.engine.arn
}

output "security_group_id" {
  description = "The balancer's group, for the engine to let in."
  value       = aws_security_group.front.id
}
