output "postgres_address" {
  description = "For the secret's database-url."
  value       = module.postgres.address
}

output "redis_address" {
  description = "For the secret's redis-url."
  value       = module.redis.address
}

output "front" {
  description = "Where the staging host has to point."
  value       = module.front.dns_name
}

output "journal_volume_id" {
  description = "The engine's disk, for snapshots."
  value       = module.engine.volume_id
}
