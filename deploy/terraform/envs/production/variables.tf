variable "region" {
  description = "Where."
  type        = string
}

variable "certificate_arn" {
  description = "The certificate of the shop's host, in the same region."
  type        = string
}

variable "log_bucket" {
  description = "The bucket for the balancer's access logs."
  type        = string
}

variable "redis_password" {
  description = "16 to 128 characters, from a secret store: TF_VAR_redis_password."
  type        = string
  sensitive   = true
}
