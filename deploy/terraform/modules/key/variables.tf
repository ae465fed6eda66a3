variable "name" {
  description = "What everything here is called."
  type        = string
}

variable "deletion_window_days" {
  description = "How long a deletion can be taken back, 7 to 30: longer than a holiday where it matters."
  type        = number
  default     = 30
}
