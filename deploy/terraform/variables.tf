variable "namespace" {
  description = "Namespace of the node agents; it must allow hostNetwork and capabilities."
  type        = string
  default     = "rotameter"
}

variable "image" {
  description = "The image, where your registry has it."
  type        = string
  default     = "rotameter:0.1.0"
}

variable "xdp_interface" {
  description = "The nodes' network card, to count before the stack; empty leaves it to the socket filter."
  type        = string
  default     = ""
}

variable "max_series" {
  description = "Series that may live at a time on a node."
  type        = number
  default     = 500000

  validation {
    condition     = var.max_series >= 1
    error_message = "max_series must be at least 1."
  }
}
