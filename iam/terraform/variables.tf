variable "cluster_name" {
  description = "Name of the EKS cluster."
  type        = string
}

variable "allocation" {
  description = "spec.addressing.allocation of the PodNetworks: Dynamic or Static."
  type        = string
  default     = "Dynamic"
  validation {
    condition     = contains(["Dynamic", "Static"], var.allocation)
    error_message = "Dynamic or Static."
  }
}

variable "interruption_queue" {
  description = "Name of the SQS queue of settings.interruptionQueue; empty for none."
  type        = string
  default     = ""
}

variable "zonal_shift" {
  description = "settings.enableZonalShift."
  type        = bool
  default     = false
}

variable "provision" {
  description = "Whether a PodNetwork's spec.provision may extend the VPC."
  type        = bool
  default     = true
}

variable "node_migration" {
  description = "Whether a NodeMigration may end instances that Karpenter did not launch."
  type        = bool
  default     = false
}
