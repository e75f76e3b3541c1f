output "controller_role_arn" {
  description = "For the Pod Identity association of the service account dovetail-controller."
  value       = aws_iam_role.controller.arn
}

output "node_role_name" {
  description = "For spec.role of the EC2NodeClasses, and for the cluster's access entry of type EC2_LINUX."
  value       = aws_iam_role.node.name
}
