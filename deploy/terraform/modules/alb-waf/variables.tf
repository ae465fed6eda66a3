variable "name" {
  description = "What everything here is called; 32 characters at most."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "public_subnet_ids" {
  description = "Where the balancer stands."
  type        = list(string)
}

variable "private_block" {
  description = "The addresses of the engine's node or task."
  type        = string
}

variable "certificate_arn" {
  description = "The certificate of the shop's host."
  type        = string
}

variable "log_bucket" {
  description = "The bucket for access logs; it has to allow the balancers of its region to write."
  type        = string
}

variable "key_arn" {
  description = "The key that encrypts the firewall's log."
  type        = string
}

variable "requests_per_address" {
  description = "Requests of one address within five minutes before it is blocked."
  type        = number
  default     = 3000
}

variable "is_production" {
  description = "Protected from deletion."
  type        = bool
}
