variable "name" {
  description = "The name of the function, and of everything that belongs to it."
  type        = string
  default     = "orders"
}

variable "image_tag" {
  description = "The tag of the image, which has been pushed to the repository."
  type        = string
}

variable "timeout" {
  description = "Seconds after which Lambda kills. The watchdog acts one grace period earlier."
  type        = number
  default     = 30
  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900
    error_message = "Lambda's timeout is 1 to 900 s."
  }
}

variable "grace_period" {
  description = "Seconds; never more than a quarter of the timeout is used."
  type        = number
  default     = 3
  validation {
    condition     = var.grace_period >= 0.1 && var.grace_period <= 225
    error_message = "The grace period is in seconds, for example 3."
  }
}

variable "alarm_email" {
  description = "An address that the alarms are sent to. Without it, subscribe to the topic yourself."
  type        = string
  default     = ""
}
