output "address" {
  description = "The primary's host, for the secret `redis-url`."
  value       = aws_elasticache_replication_group.shop.primary_endpoint_address
}
