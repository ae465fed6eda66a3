variable "name" {
  description = "What everything here is called."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out."
  type        = list(string)
}

variable "client_security_group_ids" {
  description = "Who may connect."
  type        = list(string)
}

variable "key_arn" {
  description = "The key that encrypts storage."
  type        = string
}

variable "password" {
  description = "For the secret `redis-url`; 16 to 128 characters. From a secret store, never from a file in the repository."
  type        = string
  sensitive   = true
}

variable "node_type" {
  description = "The size. A million announcements of each stream are about four gigabytes (--redis-stream-length)."
  type        = string
  default     = "cache.r7g.large"
}

variable "is_production" {
  description = "A second node in another zone that takes over."
  type        = bool
}
