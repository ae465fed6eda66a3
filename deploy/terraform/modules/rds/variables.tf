variable "name" {
  description = "What everything here is called."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets without a way out, in two zones at the least."
  type        = list(string)
}

variable "client_security_group_ids" {
  description = "Who may connect: the group of the nodes, or of the tasks."
  type        = list(string)
}

variable "key_arn" {
  description = "The key that encrypts storage, backups and the password."
  type        = string
}

variable "instance_class" {
  description = "The size. The rescue copy writes about what the journal does; reports come on top."
  type        = string
  default     = "db.m7g.large"
}

variable "storage_gib" {
  description = "Storage to begin with; it grows by itself to four times that."
  type        = number
  default     = 200
}

variable "is_production" {
  description = "Standby in a second zone, protected from deletion, a last snapshot."
  type        = bool
}
