variable "name" {
  description = "What everything here is called."
  type        = string
}

variable "private_subnet_ids" {
  description = "Where nodes live; the engine's are in the first."
  type        = list(string)
}

variable "key_arn" {
  description = "The key that encrypts secrets and logs."
  type        = string
}

variable "kubernetes_version" {
  description = "Kubernetes' minor version. The manifests are checked against this one."
  type        = string
  default     = "1.33"
}

variable "everything_instance_type" {
  description = "Nodes for everything but the engine."
  type        = string
  default     = "m7i.large"
}

variable "engine_instance_type" {
  description = "The engine's node. Single-core speed counts: one SKU is one actor is one core."
  type        = string
  default     = "c7i.2xlarge"
}
