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

variable "zones" {
  description = "Three zones, written down: asked for, a new one of the provider's could move every subnet."
  type        = list(string)
  validation {
    condition     = length(var.zones) == 3
    error_message = "Three zones: each block is cut for three, with one to spare."
  }
}

variable "key_arn" {
  description = "The key that encrypts what is stored."
  type        = string
}
