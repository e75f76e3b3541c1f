# The roles of Dovetail's controller and of the nodes that it launches, with the policies of ../policies.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0" }
  }
}

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  names = {
    Partition         = data.aws_partition.current.partition
    Region            = data.aws_region.current.name
    AccountId         = data.aws_caller_identity.current.account_id
    ClusterName       = var.cluster_name
    NodeRoleArn       = aws_iam_role.node.arn
    InterruptionQueue = var.interruption_queue
  }
  controller_policies = concat(
    ["controller", "controller-instance-profiles"],
    var.interruption_queue == "" ? [] : ["controller-interruption"],
    var.zonal_shift ? ["controller-zonal-shift"] : [],
    var.provision ? ["controller-provision"] : [],
    var.node_migration ? ["controller-node-migration"] : [],
  )
}

resource "aws_iam_role" "node" {
  name = "DovetailNodeRole-${var.cluster_name}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.${data.aws_partition.current.dns_suffix}" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])
  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.key}"
}

# With static allocation nodes have no right to change anything in EC2.
resource "aws_iam_role_policy" "node_dynamic" {
  count  = var.allocation == "Dynamic" ? 1 : 0
  name   = "node-dynamic"
  role   = aws_iam_role.node.id
  policy = templatefile("${path.module}/../policies/node-dynamic.json", local.names)
}

resource "aws_iam_role" "controller" {
  name = "DovetailControllerRole-${var.cluster_name}"
  # EKS Pod Identity; for IRSA put the cluster's OIDC provider here.
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "pods.eks.amazonaws.com" }, Action = ["sts:AssumeRole", "sts:TagSession"] }]
  })
}

resource "aws_iam_policy" "controller" {
  for_each = toset(local.controller_policies)
  name     = "Dovetail-${var.cluster_name}-${each.key}"
  policy   = templatefile("${path.module}/../policies/${each.key}.json", local.names)
}

resource "aws_iam_role_policy_attachment" "controller" {
  for_each   = aws_iam_policy.controller
  role       = aws_iam_role.controller.name
  policy_arn = each.value.arn
}
