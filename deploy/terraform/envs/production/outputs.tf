output "cluster_name" {
  description = "For aws eks update-kubeconfig."
  value       = module.cluster.cluster_name
}

output "postgres_address" {
  description = "For the secret `database-url`."
  value       = module.postgres.address
}

output "redis_address" {
  description = "For the secret `redis-url`."
  value       = module.redis.address
}

output "front" {
  description = "Where the shop's host has to point."
  value       = module.front.dns_name
}
