variable "name" {
  description = "What everything here is called, e.g. doorbuster-production."
  type        = string
}

variable "block" {
  description = "The address block, a /16 that meets no other network of yours."
  type        = string
  validation {
    condition     = can(cidrhost(var.block, 0)) && endswith(var.block, "/16")
    error_message = "The block is a /16, e.g. 10.20.0.0/16: it is cut into subnets by that size."
  }
}

variable "key_arn" {
  description = "The key that encrypts what is stored."
  type        = string
}
