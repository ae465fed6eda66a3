output "vpc_id" {
  description = "The network."
  value       = aws_vpc.shop.id
}

output "public_subnet_ids" {
  description = "For balancers."
  value       = aws_subnet.public[*].id
}

output "private_subnet_ids" {
  description = "For nodes and tasks."
  value       = aws_subnet.private[*].id
}

output "data_subnet_ids" {
  description = "For databases: no way out."
  value       = aws_subnet.data[*].id
}

output "private_block" {
  description = "The addresses of nodes and tasks, for the databases' groups."
  value       = local.private_block
}

output "public_block" {
  description = "The balancer's addresses: what the engine is told to trust for X-Forwarded-For."
  value       = local.public_block
}
