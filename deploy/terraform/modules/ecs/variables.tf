variable "name" {
  description = "What everything here is called."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "private_subnet_id" {
  description = "Where the engine's instance lives: one zone, because a volume cannot leave its zone."
  type        = string
}

variable "network_block" {
  description = "The network's addresses, databases included."
  type        = string
}

variable "public_block" {
  description = "The balancer's addresses, believed about who asks."
  type        = string
}

variable "front_security_group_id" {
  description = "The balancer's group."
  type        = string
}

variable "target_group_arn" {
  description = "Where the balancer sends requests to."
  type        = string
}

variable "image" {
  description = "The engine's image, by digest."
  type        = string
  validation {
    condition     = strcontains(var.image, "@sha256:")
    error_message = "Name the image by its digest: a tag could be moved."
  }
}

variable "secret_arn" {
  description = "A secret with the keys admin-key, database-url and redis-url."
  type        = string
}

variable "key_arn" {
  description = "The key that encrypts volume, secret and log."
  type        = string
}

variable "instance_type" {
  description = "The instance. Single-core speed counts."
  type        = string
  default     = "c7i.2xlarge"
}

variable "volume_gib" {
  description = "The journal's disk. It keeps everything: an event is about 150 bytes."
  type        = number
  default     = 100
}
